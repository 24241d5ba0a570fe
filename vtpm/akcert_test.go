package vtpm_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

func akCertificate(t *testing.T, h *vtpm.Host) vtpm.AKCertificate {
	t.Helper()
	c, err := h.AKCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a host has to show is told apart from what it only has.
func TestAKCertificate(t *testing.T) {
	host, s, stranger := vtpmtest.New(t), newService(t), newService(t)
	h := host.Open(t)
	if c := akCertificate(t, h); c.Problem != "it is not enrolled" {
		t.Errorf("a new host: %+v", c)
	}
	e, other := enrolment(t, h), enrolment(t, vtpmtest.New(t).Open(t))
	s.trustedBy(t, host)
	if err := h.InstallAKCert(t.Context(), s.issue(t, e, nil)); err != nil {
		t.Fatal(err)
	}
	h = host.Open(t) // it asks its TPM once
	if c := akCertificate(t, h); c.Problem != "" || c.Issuer != pki.Fingerprint(s.cert) {
		t.Errorf("enrolled: %+v", c)
	}
	path := filepath.Join(host.DataDir, "vtpm", "ak.pem")
	for want, der := range map[string][]byte{
		"another TPM":                           s.issue(t, other, nil),
		"is valid from":                         s.issue(t, e, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
		"an authority that this host does not ": stranger.issue(t, e, nil),
	} {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			err = os.WriteFile(path, pki.EncodePEM(cert), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if c := akCertificate(t, h); !strings.Contains(c.Problem, want) || c.Issuer != "" {
			t.Errorf("%s: %+v", want, c)
		}
	}
}

func TestAKCertificatesAreRenewedInTime(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, tt := range []struct {
		name         string
		before, left time.Duration
		due          bool
	}{
		{"a year's, new", 0, 365 * day, false},
		{"a year's, with a month and a day left", 334 * day, 31 * day, false},
		{"a year's, with less than a month left", 336 * day, 29 * day, true},
		{"one that ends with its authority, new", 0, 10 * day, false},
		{"the same, nearly over", 8 * day, 2 * day, true},
		{"one that is over", 20 * day, -day, true},
	} {
		c := vtpm.AKCertificate{NotBefore: now.Add(-tt.before), NotAfter: now.Add(tt.left)}
		if got := c.Due(now); got != tt.due {
			t.Errorf("%s: due %v", tt.name, got)
		}
	}
}

// A record carries the certificate that the host had when it was written.
func TestRecordsKnowTheirHostsCertificate(t *testing.T) {
	host, s := vtpmtest.New(t), newService(t)
	h := host.Open(t)
	certified := func() bool {
		t.Helper()
		status, err := host.Open(t).Status(t.Context(), id.UUID)
		if err != nil || status.Binding != vtpm.Bound {
			t.Fatalf("%+v, %v", status, err)
		}
		return status.Certified
	}
	bind := func() {
		t.Helper()
		if err := h.Bind(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	bind()
	if certified() {
		t.Error("certified, and nobody has enrolled the host")
	}
	s.trustedBy(t, host)
	enrol := func() {
		t.Helper()
		if err := h.InstallAKCert(t.Context(), s.issue(t, enrolment(t, h), nil)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // enrolled, and enrolled again
		if enrol(); certified() {
			t.Error("certified by a certificate that came later")
		}
		if bind(); !certified() {
			t.Error("not certified by a record that came later")
		}
	}
}

func TestVendorRoot(t *testing.T) {
	host := vtpmtest.New(t)
	root, err := host.Open(t).VendorRoot(t.Context())
	if err != nil || !root.IsCA {
		t.Fatalf("%v, %v", root, err)
	}
	if leaf, err := x509.ParseCertificate(enrolment(t, host.Open(t)).EKChain[0]); err != nil || leaf.Equal(root) {
		t.Errorf("the EK's own certificate: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(host.DataDir, "vtpm", "trust")); err != nil {
		t.Fatal(err)
	}
	if root, err := host.Open(t).VendorRoot(t.Context()); err == nil || !strings.Contains(hint.Of(err), "tpm-vendor") {
		t.Errorf("a host that believes nobody: %v, %v", root, err)
	}
	removeEKCert(t, host)
	if _, err := host.Open(t).VendorRoot(t.Context()); !errors.Is(err, vtpm.ErrNoEKCert) {
		t.Errorf("without an EK certificate: %v", err)
	}
}

// Whom the host believes no longer leaves no certificate behind, and whom else it
// believes does not change.
func TestDistrust(t *testing.T) {
	host, s, other := vtpmtest.New(t), newService(t), newService(t)
	h := host.Open(t)
	e := enrolment(t, h)
	if err := h.InstallAKCert(t.Context(), s.issue(t, e, nil), s.cert, other.cert); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(host.DataDir, "vtpm", "ak.pem")
	for range 2 { // and once more where it is gone
		if err := h.Distrust(pki.Fingerprint(other.cert)); err != nil {
			t.Fatal(err)
		}
		if known, err := h.TrustsAKIssuer(other.cert.Raw); known || err != nil {
			t.Errorf("still believed: %v, %v", known, err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another authority's certificate: %v", err)
	}
	if err := h.Distrust(pki.Fingerprint(s.cert)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the certificate of an authority that nobody believes: %v", err)
	}
}
