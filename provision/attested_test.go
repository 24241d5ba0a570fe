package provision_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
)

const testHostID = "000b00000000000000000000000000000000000000000000000000000000000000ff"

// attested is what a world has of attestation: the host's certificate, whom the host
// believes, what the guests' records have, and the licence servers in guests.
type attested struct {
	certificate string    // issuer's fingerprint; "" for none
	serial      int       // of the certificate; each one that is issued is another
	ends        time.Time // of the certificate; zero: in a year
	believed    []string
	records     map[string]int // the certificate's serial, by vTPM
	servers     map[string]*testServer
	silent      int    // how often nobody answers before somebody does
	refuses     error  // what a server says instead
	word        string // what a licence server says of itself, instead
	asked       []provision.AttestationServer
}

// testServer is a licence server in the guest with an address.
type testServer struct {
	authority *x509.Certificate
	vendors   []string // whom it believes, and
	hosts     []string // which hosts it allows, since
	reloaded  bool     // it has read them
}

func (a *attested) record(uuid string) {
	if a.records == nil {
		a.records = make(map[string]int)
	}
	a.records[uuid] = 0
	if a.certificate != "" {
		a.records[uuid] = a.serial
	}
}

func (a *attested) isCertified(uuid string) bool {
	return a.certificate != "" && a.records[uuid] == a.serial
}

// forgetServer is that a guest's disk is gone.
func (w *world) forgetServer(domain string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if domain == "ovsa_isv_dev" {
		delete(w.servers, "192.168.122.20")
	}
}

// licenceServer is the program in a guest, and its unit.
func (g guest) licenceServer(argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.ContainsFunc(g.guests[g.address], func(line string) bool { return strings.HasPrefix(line, "license_server/") }) {
		return errors.New("exit status 127: no licence server here")
	}
	s := g.servers[g.address]
	if s == nil {
		s = &testServer{authority: newAuthority("of a licence server")}
		if g.servers == nil {
			g.servers = make(map[string]*testServer)
		}
		g.servers[g.address] = s
	}
	const program = "sudo -n -u ovsa -- /opt/ovsa/bin/license_server "
	switch line := strings.Join(argv, " "); {
	case line == program+"trust add -for tpm-vendor -":
		pem, err := io.ReadAll(stdin)
		if err != nil {
			return err
		}
		certs, err := pki.ParsePEM(pem)
		if err != nil || len(certs) != 1 {
			fmt.Fprintln(stderr, "standard input: not a certificate")
			return errors.New("exit status 1")
		}
		s.vendors, s.reloaded = append(s.vendors, pki.Fingerprint(certs[0])), false
	case strings.HasPrefix(line, program+"hosts allow -json "):
		if g.word != "" {
			_, err := io.WriteString(stdout, g.word)
			return err
		}
		s.hosts = append(s.hosts, strings.TrimPrefix(line, program+"hosts allow -json "))
		return json.NewEncoder(stdout).Encode(map[string]string{"pin": pinOf(s), "authority": string(pki.EncodePEM(s.authority))})
	case line == "sudo -n -- systemctl try-reload-or-restart license_server.service":
		s.reloaded = true
	default:
		return fmt.Errorf("ran %q", argv)
	}
	return nil
}

// pinOf stands for the key of a server.
func pinOf(s *testServer) string { return pki.Fingerprint(s.authority) }

type attestation struct{ *world }

func (a attestation) AKCertificate(context.Context) (vtpm.AKCertificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := vtpm.AKCertificate{Issuer: a.certificate, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: a.ends}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	switch {
	case a.certificate == "":
		c.Problem = "it is not enrolled"
	case !slices.Contains(a.believed, a.certificate):
		c.Problem = "it was enrolled by an authority that this host does not believe"
	}
	return c, nil
}

func (a attestation) Enrolment(context.Context) (vtpm.Enrolment, error) {
	return vtpm.Enrolment{HostID: testHostID, Simulated: true}, a.call()
}

func (a attestation) VendorRoot(context.Context) (*x509.Certificate, error) { return testVendor(), nil }

// Enrol is the server and the host at once.
func (a attestation) Enrol(_ context.Context, server provision.AttestationServer) error {
	if err := a.call(); err != nil {
		return err
	}
	if err := a.issue(server); err != nil {
		return err
	}
	return a.call()
}

func (a attestation) issue(server provision.AttestationServer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, server)
	if a.silent > 0 {
		a.silent--
		return fmt.Errorf("dial: %w", provision.ErrNotAnswering)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		return err
	}
	if at, err := netip.ParseAddr(u.Hostname()); err == nil { // a guest's
		s := a.servers[at.String()]
		switch {
		case a.refuses != nil:
		case s == nil || server.Pin != pinOf(s):
			return errors.New("the server is not the one that was asked for")
		case !s.reloaded || !slices.Contains(s.hosts, testHostID) || !slices.Contains(s.vendors, pki.Fingerprint(testVendor())):
			return errors.New("refused")
		}
	}
	if a.refuses != nil {
		return a.refuses
	}
	a.certificate, a.ends = pki.Fingerprint(server.Issuers[0]), time.Time{}
	a.serial++
	if !slices.Contains(a.believed, a.certificate) {
		a.believed = append(a.believed, a.certificate)
	}
	return nil
}

func (a attestation) Distrust(id string) error {
	if err := a.call(); err != nil {
		return err
	}
	a.mu.Lock()
	a.believed = slices.DeleteFunc(a.believed, func(b string) bool { return b == id })
	if a.certificate == id {
		a.certificate = ""
	}
	a.mu.Unlock()
	return a.call()
}

var testVendor = sync.OnceValue(func() *x509.Certificate { return newAuthority("a maker of TPMs") })

// newAuthority is a certificate like no other.
func newAuthority(name string) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}
