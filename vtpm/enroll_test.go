package vtpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var secret = []byte("a secret of thirty-two bytes, ok")

// service is an attestation service: it certifies the AKs of hosts.
type service struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newService(t *testing.T) service {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attestation service"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	return service{sign(t, template, template, key.Public(), key), key}
}

func sign(t *testing.T, template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue certifies an AK, and change makes the certificate another.
func (s service) issue(t *testing.T, e vtpm.Enrolment, change func(*x509.Certificate)) []byte {
	t.Helper()
	uri, err := url.Parse(quote.HostURI(e.HostID))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute),
		URIs: []*url.URL{uri}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](e.AK)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(template)
	}
	return sign(t, template, s.cert, key, s.key).Raw
}

// trustedBy makes the service one that the host trusts.
func (s service) trustedBy(t *testing.T, host *vtpmtest.Host) {
	t.Helper()
	dir := filepath.Join(host.DataDir, "vtpm", "ak-trust")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
	if err := os.WriteFile(filepath.Join(dir, "service.pem"), block, 0o644); err != nil {
		t.Fatal(err)
	}
}

func enrolment(t *testing.T, h *vtpm.Host) vtpm.Enrolment {
	t.Helper()
	e, err := h.Enrolment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func challenge(t *testing.T, ekCert, ak []byte) (credential, encrypted []byte) {
	t.Helper()
	cert, err := x509.ParseCertificate(ekCert)
	if err != nil {
		t.Fatal(err)
	}
	name, err := quote.AKName(ak)
	if err != nil {
		t.Fatal(err)
	}
	credential, encrypted, err = quote.MakeCredential(cert.PublicKey, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	return credential, encrypted
}

// An enrolled host's records verify without being told to allow others.
func TestEnrol(t *testing.T) {
	host, s := vtpmtest.New(t), newService(t)
	h := host.Open(t)
	e := enrolment(t, h)
	if !e.Simulated || len(e.EKChain) == 0 {
		t.Errorf("%+v", e)
	}
	credential, encrypted := challenge(t, e.EKChain[0], e.AK)
	if got, err := h.Activate(t.Context(), credential, encrypted); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("got %q, %v", got, err)
	}
	s.trustedBy(t, host)
	if err := h.InstallAKCert(t.Context(), s.issue(t, e, nil)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Manufacture(t.Context(), id), h.Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	v, err := h.Verify(t.Context(), id.UUID, false)
	if err != nil || !v.OK() || v.Step(quote.StepEnrolled).Status != quote.Passed || v.Step(quote.StepHostID).Status != quote.Passed {
		t.Errorf("verify: %v, %v, %+v", err, v.Err(), v.Step(quote.StepHostID))
	}
	if again := enrolment(t, host.Open(t)); again.HostID != e.HostID || !bytes.Equal(again.AK, e.AK) {
		t.Error("the host is another each time")
	}
}

func TestAnotherHostCannotAnswer(t *testing.T) {
	h, other := vtpmtest.New(t).Open(t), vtpmtest.New(t).Open(t)
	e, o := enrolment(t, h), enrolment(t, other)
	for what, with := range map[string][2][]byte{
		"all of another host":           {o.EKChain[0], o.AK},
		"its EK with another host's AK": {e.EKChain[0], o.AK},
		"its AK with another host's EK": {o.EKChain[0], e.AK},
	} {
		credential, encrypted := challenge(t, with[0], with[1])
		if got, err := h.Activate(t.Context(), credential, encrypted); !errors.Is(err, vtpm.ErrCredential) || got != nil {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
}

func TestAKCertsThatAreNotInstalled(t *testing.T) {
	host, s, stranger := vtpmtest.New(t), newService(t), newService(t)
	h := host.Open(t)
	e, o := enrolment(t, h), enrolment(t, vtpmtest.New(t).Open(t))
	s.trustedBy(t, host)
	otherAK, otherHost := e, e
	otherAK.AK, otherHost.HostID = o.AK, o.HostID
	for what, c := range map[string]struct {
		der  []byte
		want string
	}{
		"of another AK":         {s.issue(t, otherAK, nil), "another key"},
		"of another host":       {s.issue(t, otherHost, nil), "does not name"},
		"by a stranger":         {stranger.issue(t, e, nil), "unknown authority"},
		"no name":               {s.issue(t, e, func(c *x509.Certificate) { c.URIs = nil }), "does not name"},
		"for another purpose":   {s.issue(t, e, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), "purpose"},
		"an authority's":        {s.issue(t, e, func(c *x509.Certificate) { c.IsCA = true }), "authority's"},
		"expired":               {s.issue(t, e, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "valid from"},
		"not valid yet":         {s.issue(t, e, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Second) }), "valid from"},
		"a byte after it":       {append(s.issue(t, e, nil), 0), "trailing data"},
		"nothing":               {nil, ""},
		"larger than any other": {make([]byte, 1<<20), "limit"},
	} {
		err := h.InstallAKCert(t.Context(), c.der)
		if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", "ak.pem")); !os.IsNotExist(err) {
		t.Errorf("a certificate was kept: %v", err)
	}
}

// A TPM whose vendor gives the certificate elsewhere cannot be enrolled, and says
// so.
func TestEnrolWithoutEKCert(t *testing.T) {
	host := vtpmtest.New(t)
	removeEKCert(t, host)
	h := host.Open(t)
	if _, err := h.Enrolment(t.Context()); !errors.Is(err, vtpm.ErrNoEKCert) || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
	if _, err := h.Activate(t.Context(), nil, nil); !errors.Is(err, vtpm.ErrNoEKCert) {
		t.Errorf("got %v", err)
	}
}

// An EK certificate is public: another TPM that shows it does not become its own.
func TestStolenEKCert(t *testing.T) {
	host, victim := vtpmtest.New(t), vtpmtest.New(t)
	stolen := enrolment(t, victim.Open(t)).EKChain[0]
	removeEKCert(t, host)
	writeEKCert(t, host, stolen)
	h := host.Open(t)
	e := enrolment(t, h)
	if !bytes.Equal(e.EKChain[0], stolen) {
		t.Fatal("not shown")
	}
	credential, encrypted := challenge(t, e.EKChain[0], e.AK)
	got, err := h.Activate(t.Context(), credential, encrypted)
	if err == nil || got != nil || !strings.Contains(err.Error(), "of another key") {
		t.Errorf("got %q, %v", got, err)
	}
}

func writeEKCert(t *testing.T, host *vtpmtest.Host, der []byte) {
	t.Helper()
	tpm, err := guest.Open(t.Context(), host.TPM)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	const index = tpm2.TPMHandle(0x01c00002)
	define := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHPlatform, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(der)),
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true},
	})}
	if _, err := define.Execute(tpm); err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(der); offset += 512 {
		rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm) // writing changes its name
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHPlatform, NVIndex: tpm2.NamedHandle{Handle: index, Name: rsp.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: der[offset:min(offset+512, len(der))]}, Offset: uint16(offset),
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func removeEKCert(t *testing.T, host *vtpmtest.Host) {
	t.Helper()
	tpm, err := guest.Open(t.Context(), host.TPM)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	const index = tpm2.TPMHandle(0x01c00002)
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	undefine := tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHPlatform, NVIndex: &tpm2.NamedHandle{Handle: index, Name: rsp.NVName}}
	if _, err := undefine.Execute(tpm); err != nil {
		t.Fatal(err)
	}
}
