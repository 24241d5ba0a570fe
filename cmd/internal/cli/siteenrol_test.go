package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

func readCert(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	certs, err := pki.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// What apply asks a server, by either way to know it.
func TestApplyEnrols(t *testing.T) {
	for _, way := range []string{"pin", "authority"} {
		host := vtpmtest.New(t)
		s := startEnrolment(t, filepath.Join(host.DataDir, "vtpm", "trust"), enrol.AnyHost{}, tls.VersionTLS13)
		issuers := readCert(t, s.issuerFile)
		server := provision.AttestationServer{URL: s.url, Pin: s.pin, Issuers: issuers}
		if way == "authority" {
			server.Pin, server.CA = "", readCert(t, s.caFile)
		}
		a := attestation{host.Open(t)}
		if err := a.Enrol(t.Context(), server); err != nil {
			t.Fatalf("by %s: %v", way, err)
		}
		got, err := attestation{host.Open(t)}.AKCertificate(t.Context())
		if err != nil || got.Problem != "" || got.Issuer != pki.Fingerprint(issuers[0]) {
			t.Errorf("by %s: %+v, %v", way, got, err)
		}
	}
}

// Waiting is for servers that do not answer yet; all others say what is wrong, and
// leave nothing.
func TestApplyDoesNotEnrol(t *testing.T) {
	host := vtpmtest.New(t)
	vendors := filepath.Join(host.DataDir, "vtpm", "trust")
	good := startEnrolment(t, vendors, enrol.AnyHost{}, tls.VersionTLS13)
	other := startEnrolment(t, vendors, enrol.AnyHost{}, tls.VersionTLS13)
	old := startEnrolment(t, vendors, enrol.AnyHost{}, tls.VersionTLS12)
	list := filepath.Join(t.TempDir(), "hosts.allow")
	if err := os.WriteFile(list, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := startEnrolment(t, vendors, enrol.AllowList{Path: list}, tls.VersionTLS13)
	plain := httptest.NewTLSServer(http.NotFoundHandler())
	defer plain.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	issuers := readCert(t, good.issuerFile)
	for name, tt := range map[string]struct {
		server provision.AttestationServer
		wait   bool
		want   string
		hint   string
	}{
		"another pin":         {provision.AttestationServer{URL: good.url, Pin: other.pin, Issuers: issuers}, false, "not the one that was asked for", "for its pin"},
		"another authority":   {provision.AttestationServer{URL: good.url, CA: readCert(t, other.caFile), Issuers: issuers}, false, "unknown authority", "another authority"},
		"nothing to know it":  {provision.AttestationServer{URL: good.url, Issuers: issuers}, false, "neither an authority nor a pin", ""},
		"another issuer":      {provision.AttestationServer{URL: other.url, Pin: other.pin, Issuers: issuers}, false, "by another authority", "name that file as issuer"},
		"not allowed":         {provision.AttestationServer{URL: strict.url, Pin: strict.pin, Issuers: issuers}, false, "was not enrolled", "license_server hosts allow"},
		"an older TLS":        {provision.AttestationServer{URL: old.url, Pin: old.pin, Issuers: issuers}, false, "protocol version", ""},
		"nobody there":        {provision.AttestationServer{URL: "https://" + closed.Addr().String(), Pin: good.pin, Issuers: issuers}, true, "refused", ""},
		"no authority so far": {provision.AttestationServer{URL: plain.URL, Pin: licensing.PinOf(plain.Certificate()).String(), Issuers: issuers}, true, "404", ""},
	} {
		err := attestation{host.Open(t)}.Enrol(t.Context(), tt.server)
		if err == nil || errors.Is(err, provision.ErrNotAnswering) != tt.wait || !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) {
			t.Errorf("%s: %v; hint: %s", name, err, hint.Of(err))
		}
	}
	for _, path := range []string{"ak.pem", "ak-trust"} {
		if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", path)); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", path, err)
		}
	}
}
