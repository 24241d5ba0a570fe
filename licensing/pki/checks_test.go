package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// The checks in this file stand behind others that refuse most of the same, so they
// are looked for by what they say, or by what nothing else refuses.

func TestStatusSaysWhy(t *testing.T) {
	ca := issue(t, nil, "ca", asCA)
	leaf := issue(t, ca, "leaf", nil)
	if err := (OCSP{}).Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, ErrStatus) || !strings.Contains(err.Error(), "it names no responder") {
		t.Errorf("no responder: %v", err)
	}
	// A response that would do is none where it is not given as one.
	good := respond(t, ca, ca, leaf, nil)
	for name, tt := range map[string]struct {
		kind string
		code int
	}{"not found": {"application/ocsp-response", 404}, "as text": {"text/plain", 200}, "created": {"application/ocsp-response", 201}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", tt.kind)
			w.WriteHeader(tt.code)
			w.Write(good)
		}))
		if err := (OCSP{Responder: server.URL}).Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, ErrStatus) {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

func TestOnlyCertificates(t *testing.T) {
	cert := issue(t, nil, "x", nil).cert
	for _, kind := range []string{"X509 CERTIFICATE", "TRUSTED CERTIFICATE", "CERTIFICATE REQUEST"} {
		if _, err := ParsePEM(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: cert.Raw})); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestStoresAreChecked(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(dir)
	a, err := s.Add(issue(t, nil, "a", nil).cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(a.ID[:minID-1]); err == nil || !strings.Contains(err.Error(), "at least 8 digits") {
		t.Errorf("7 digits: %v", err)
	}
	two := EncodePEM(issue(t, nil, "b", nil).cert, issue(t, nil, "c", nil).cert)
	if err := os.WriteFile(filepath.Join(dir, "two.pem"), two, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "has 2 certificates") {
		t.Errorf("two in a file: %v", err)
	}
}

func TestSubjectsSayWhy(t *testing.T) {
	if _, err := ParseSubject("/C=India"); err == nil || !strings.Contains(err.Error(), "two letters") {
		t.Errorf("a country: %v", err)
	}
}

func TestVerifySaysWhy(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	self := issue(t, nil, "self", nil)
	_, err := verifier(storeOf(t, root), allGood{}).Verify(t.Context(), []*x509.Certificate{self.cert})
	if !errors.Is(err, ErrUntrusted) || !strings.Contains(hint.Of(err), Fingerprint(self.cert)) {
		t.Errorf("self-signed: %v (%s)", err, hint.Of(err))
	}
	// An authority that is believed is no party, though nobody has to issue it.
	between := issue(t, root, "between", asCA)
	if path, err := verifier(storeOf(t, between), allGood{}).Verify(t.Context(), []*x509.Certificate{between.cert}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("an authority's own: %v, %v", path, err)
	}
}
