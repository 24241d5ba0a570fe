package ovsaruntime

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// defaultCerts is where the front's certificates are.
const defaultCerts = "/var/OVSA/Modelserver"

// certTime is how long certificates of the front are used.
const certTime = 365 * 24 * time.Hour

func certsFlag(help string) guestcli.Flag {
	return guestcli.Flag{Name: "certs", Arg: "DIR", Kind: guestcli.Dir, Setting: true, Default: defaultCerts, Help: help}
}

func gencertsCommand(now func() time.Time) guestcli.Command {
	return guestcli.Command{
		Name: "gencerts", Summary: "make what is missing of the certificates of the front and of its clients",
		Flags: []guestcli.Flag{
			certsFlag("where they are"),
			{Name: "host", Arg: "NAME...", Help: "names and addresses by which clients know the front; localhost, and this machine's name and addresses", Min: 1, Max: guestcli.Many},
			{Name: "client", Arg: "NAME", Default: "client", Help: "make NAME.pem and NAME.key for a client"},
			{Name: "revoke", Arg: "NAME", Help: "have the front refuse a client, whatever certificates it has; make nothing"},
			{Name: "renew", Help: "make the front's and the client's anew; clients have to be given the new server.pem"},
			guestcli.JSON(),
		},
		Example: "gencerts -host models.example.org 192.168.122.30",
		Run: func(ctx context.Context, c *guestcli.Call) error {
			return gencerts(ctx, c, now())
		},
	}
}

var clientName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// checkClient refuses what is no name for a client.
func checkClient(flag, name string) error {
	if !clientName.MatchString(name) || name == serverName || name == caName {
		return guestcli.Usagef("-%s %q is no name for a client: letters, digits and . _ -, but neither %s nor %s", flag, name, serverName, caName)
	}
	return nil
}

func gencerts(ctx context.Context, c *guestcli.Call, now time.Time) error {
	client, revoked, dir := c.Text("client"), c.Text("revoke"), c.Text("certs")
	if c.Has("revoke") {
		if err := checkClient("revoke", revoked); err != nil {
			return err
		}
	}
	if err := checkClient("client", client); err != nil {
		return err
	}
	hosts := c.All("host")
	if len(hosts) == 0 {
		hosts = hostNames()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return hint.Wrap(fmt.Errorf("make the certificates' directory: %w", err), "run it as root, or choose another: -certs DIR")
	}
	alone, err := lock.Wait(ctx, filepath.Join(dir, ".gencerts.lock"), fmt.Sprintf("pid %d (gencerts)", os.Getpid()), nil)
	if err != nil {
		return hint.Wrap(err, "run it as root, or choose another: -certs DIR")
	}
	defer alone.Release()
	if c.Has("revoke") {
		return revokeClient(c, dir, revoked, now)
	}
	made := []string{}
	make := func(name string, again bool, template *x509.Certificate, issuer *clients) (*pair, error) {
		p := &pair{path: filepath.Join(dir, name)}
		switch err := p.read(); {
		case err == nil && !again && now.Before(p.cert.NotAfter) && !issuer.refuses(p.cert):
			return p, nil
		case err != nil && !errors.Is(err, errIncomplete):
			return nil, err
		}
		if name == caName {
			if err := beginAuthority(dir); err != nil {
				return nil, err
			}
		}
		made = append(made, name+".pem")
		return p, p.make(name, template, issuer, now)
	}
	if _, err := make(serverName, c.Has("renew"), serverTemplate(hosts), nil); err != nil {
		return err
	}
	// Another authority's certificate is there without its key: it knows its clients.
	if !c.Has("client") && (&pair{path: filepath.Join(dir, caName)}).foreign() {
		return reportCerts(c, dir, made)
	}
	ca, err := make(caName, false, authorityTemplate(), nil)
	if err != nil {
		return err
	}
	issuer := &clients{dir: dir, ca: ca, now: now}
	if issuer.revoked, err = issuer.revocations(); err != nil {
		return err
	}
	if _, err := make(client, c.Has("renew"), clientTemplate(client), issuer); err != nil {
		return err
	}
	return reportCerts(c, dir, made)
}

func reportCerts(c *guestcli.Call, dir string, made []string) error {
	if len(made) == 0 {
		return c.Report(made, "%s: everything is there", dir)
	}
	return c.Report(made, "%s: made %s, each with its key", dir, strings.Join(made, ", "))
}

// hostNames are those by which this machine may be known to clients.
func hostNames() []string {
	names := []string{"localhost"}
	if name, err := os.Hostname(); err == nil && hostName.MatchString(name) && name != names[0] {
		names = append(names, name)
	}
	names = append(names, "127.0.0.1")
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			names = append(names, network.IP.String())
		}
	}
	return names
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)

func serverTemplate(hosts []string) *x509.Certificate {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true, // clients take it as their root
		MaxPathLenZero: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return t
}

func authorityTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: "clients of this model server"}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
}

func clientTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// pair is a certificate and its key, in PATH.pem and PATH.key.
type pair struct {
	path string
	cert *x509.Certificate
	key  crypto.Signer
}

// errIncomplete says that a pair is not there, or was not made to its end.
var errIncomplete = errors.New("it is incomplete")

// foreign tells whether there is a certificate, and no key was ever made for it: a key
// is made first.
func (p *pair) foreign() bool {
	_, err := os.Lstat(p.path + ".pem")
	_, keyErr := os.Lstat(p.path + ".key")
	return err == nil && errors.Is(keyErr, fs.ErrNotExist)
}

func (p *pair) read() error {
	certs, err := pki.ReadFile(p.path + ".pem")
	if errors.Is(err, pki.ErrFile) {
		return hint.Wrap(err, "move it away, and it is made anew")
	}
	if err == nil {
		p.cert = certs[0]
		p.key, err = pki.ReadKey(p.path + ".key")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errIncomplete
	}
	if err != nil {
		return err
	}
	if public, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(p.cert.PublicKey) {
		return errIncomplete
	}
	return nil
}

// make makes a pair, signed by an issuer or, without one, by itself. The key is
// written first: what is not made to its end does not fit together.
func (p *pair) make(name string, t *x509.Certificate, issuer *clients, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	t.SerialNumber, t.NotBefore, t.NotAfter = serial, now.Add(-time.Hour), now.Add(certTime)
	parent, signer := t, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.ca.cert, issuer.ca.key
		if parent.NotAfter.Before(t.NotAfter) {
			t.NotAfter = parent.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	p.key = key
	if issuer != nil {
		if err := issuer.record(name, p.cert); err != nil {
			return err
		}
	}
	staged, err := pki.StageKey(p.path+".key", key)
	if err != nil {
		return err
	}
	if err := staged.Replace(); err != nil {
		return err
	}
	return atomicfile.WriteOwned(p.path+".pem", pki.EncodePEM(p.cert), 0o644)
}
