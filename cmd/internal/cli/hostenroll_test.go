package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// testAuthority makes an authority and the file with its certificate.
func testAuthority(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pki.EncodePEM(cert), 0o644); err != nil {
		t.Fatal(err)
	}
	return cert, key, file
}

// enrolmentServer is a TLS server that enrols hosts of a vendor.
type enrolmentServer struct {
	url, pin, caFile, issuerFile string
	log                          *bytes.Buffer
}

func startEnrolment(t *testing.T, vendorDir string, policy enrol.Policy, version uint16) enrolmentServer {
	t.Helper()
	ledger, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ovsa.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	issuer, issuerKey, issuerFile := testAuthority(t, "attestation authority")
	service, err := enrol.New(enrol.Options{
		CA: issuer, Key: issuerKey, Policy: policy, Ledger: ledger, Roots: enrol.RootsIn(pki.NewStore(vendorDir)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ca, caKey, caFile := testAuthority(t, "server authority")
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server := httptest.NewUnstartedServer(service.Handler(slog.New(slog.NewTextHandler(&log, nil))))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version}
	server.StartTLS()
	t.Cleanup(server.Close)
	return enrolmentServer{server.URL, hex.EncodeToString(licensing.PinOf(cert)), caFile, issuerFile, &log}
}

// enroll runs host enroll.
func enroll(t *testing.T, host *vtpmtest.Host, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	env, errors := testEnv(nil)
	env.Args = append([]string{"host", "enroll", "--data-dir", host.DataDir, "--tpm", host.TPM}, args...)
	code = Run(t.Context(), env)
	return code, env.Stdout.(*bytes.Buffer).String(), errors.String()
}

// hostID is the ID of a host, as its TPM says.
func hostID(t *testing.T, host *vtpmtest.Host) string {
	t.Helper()
	who, err := host.Open(t).Enrolment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return who.HostID
}

// After host enroll the host's records verify without --allow-unenrolled, for the
// roles that were named.
func TestHostEnroll(t *testing.T) {
	host := vtpmtest.New(t)
	server := startEnrolment(t, filepath.Join(host.DataDir, "vtpm", "trust"), enrol.AnyHost{}, tls.VersionTLS13)
	code, stdout, stderr := enroll(t, host, server.url, "--ca", server.caFile, "--issuer", server.issuerFile, "--vm", "runtime", "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s\n%s", code, stderr, server.log)
	}
	uuid := provision.DomainUUID("local", "runtime")
	var got enrolled
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || !got.Trusted || len(got.VMs) != 1 || got.VMs[0] != uuid {
		t.Errorf("%s, %v", stdout, err)
	}
	h := host.Open(t)
	for role, ok := range map[string]bool{"runtime": true, "developer": false} {
		id := vtpm.Identity{UUID: provision.DomainUUID("local", role), Name: provision.DomainName(role)}
		if err := h.Manufacture(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := h.Bind(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		v, err := h.Verify(t.Context(), id.UUID, false)
		if err != nil || v.OK() != ok || v.Step(quote.StepEnrolled).Status != quote.Passed {
			t.Errorf("%s: %v, %v", role, err, v.Err())
		}
	}
}

// By a pin alone the server is known, but its authority is not trusted.
func TestHostEnrollByPin(t *testing.T) {
	host := vtpmtest.New(t)
	server := startEnrolment(t, filepath.Join(host.DataDir, "vtpm", "trust"), enrol.AnyHost{}, tls.VersionTLS13)
	code, stdout, stderr := enroll(t, host, server.url, "--pin", server.pin)
	if code != 0 || !strings.Contains(stdout, "This host, "+hostID(t, host)) || !strings.Contains(stdout, "does not trust that authority") || !strings.Contains(stdout, "vtpm rebind") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", "ak-trust")); !os.IsNotExist(err) {
		t.Errorf("an authority became trusted: %v", err)
	}
}

func TestHostEnrollRefuses(t *testing.T) {
	host := vtpmtest.New(t)
	vendors := filepath.Join(host.DataDir, "vtpm", "trust")
	server := startEnrolment(t, vendors, enrol.AnyHost{}, tls.VersionTLS13)
	old := startEnrolment(t, vendors, enrol.AnyHost{}, tls.VersionTLS12)
	list := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(list, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := startEnrolment(t, vendors, enrol.AllowList{Path: list}, tls.VersionTLS13)
	strangers := startEnrolment(t, t.TempDir(), enrol.AnyHost{}, tls.VersionTLS13)
	for name, tt := range map[string]struct {
		args  []string
		want  string
		asked bool // the server, or what is in its place
	}{
		"nothing to know the server by": {[]string{server.url}, "openssl x509", false},
		"both ways":                     {[]string{server.url, "--ca", server.caFile, "--pin", server.pin}, "none of the others can be", false},
		"another authority":             {[]string{server.url, "--ca", old.caFile}, "another authority than the one that was given", true},
		"another pin":                   {[]string{server.url, "--pin", old.pin}, "administrator for its pin", true},
		"half a pin":                    {[]string{server.url, "--pin", server.pin[:32]}, "not a SHA-256", false},
		"plain HTTP":                    {[]string{strings.Replace(server.url, "https", "http", 1), "--pin", server.pin}, "not the https:// address", false},
		"TLS 1.2":                       {[]string{old.url, "--pin", old.pin}, "protocol version", true},
		"another issuer":                {[]string{server.url, "--pin", server.pin, "--issuer", old.issuerFile}, "unknown authority", true},
		"not on the allow list":         {[]string{strict.url, "--pin", strict.pin}, "was not enrolled; ask", true},
		"a vendor nobody knows":         {[]string{strangers.url, "--pin", strangers.pin}, "was not enrolled; ask", true},
	} {
		code, stdout, stderr := enroll(t, host, tt.args...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit %d: %s%s", name, code, stdout, stderr)
		}
		// Whatever was asked of a server was asked for a host that is named before.
		if asked, said := tt.asked, strings.HasPrefix(stderr, "This host's ID is "+hostID(t, host)+".\n"); asked != said {
			t.Errorf("%s: the host's ID is told: %t, want %t: %s", name, said, asked, stderr)
		}
		if !tt.asked {
			continue
		}
		code, stdout, _ = enroll(t, host, append(tt.args, "--json")...)
		var got notEnrolled
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code == 0 || got.HostID != hostID(t, host) || !got.Simulated || got.Error == "" {
			t.Errorf("%s as JSON: exit %d, %s (%v)", name, code, stdout, err)
		}
	}
	if !strings.Contains(strict.log.String(), "not allowed") || !strings.Contains(strangers.log.String(), "trusts no root") {
		t.Errorf("the logs do not say why: %s%s", strict.log, strangers.log)
	}
	if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", "ak.pem")); !os.IsNotExist(err) {
		t.Errorf("a certificate was kept: %v", err)
	}
}
