package guest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

const vm = "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11"

var nonce = bytes.Repeat([]byte{7}, 32)

// One TPM is the host's and one the guest's: what they really sign verifies.
func TestQuoteVerifies(t *testing.T) {
	host, guest := startTPM(t), startTPM(t)
	ca, key := newCA(t)
	cert, ekName := installEK(t, guest, ca, key)
	record := hostRecord(t, host, cert, ekName)
	writeRecord(t, guest, record)

	evidence, err := Quote(t.Context(), "unix:"+guest, nonce, nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := evidence.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	policy := quote.EvidencePolicy{Record: quote.Policy{
		AllowUnenrolled: true, VM: vm, VTPMRoots: []*x509.Certificate{ca}, Now: time.Now(),
	}}
	r := quote.VerifyEvidence(doc, nonce, policy)
	if !r.OK() {
		for _, s := range r.Steps {
			t.Logf("%s: %s (%s)", s.Name, s.Status, s.Detail)
		}
		t.Fatal(r.Err())
	}
	if r.Claims.VMName != "ovsa_runtime" || r.GuestClock.ResetCount == 0 {
		t.Errorf("claims %+v, clock %+v", r.Claims, r.GuestClock)
	}
	if r := quote.VerifyEvidence(doc, bytes.Repeat([]byte{8}, 32), policy); r.OK() {
		t.Error("verifies for another nonce")
	}
	again, err := Quote(t.Context(), "unix:"+guest, nonce, nil)
	if err != nil || !bytes.Equal(again.AK, evidence.AK) {
		t.Errorf("a second quote: %v, the same AK %v", err, bytes.Equal(again.AK, evidence.AK))
	}
}

// The TPM name that a certificate's key implies is the one that TPMs compute.
func TestEKName(t *testing.T) {
	tpm := open1(t, startTPM(t))
	for name, template := range map[string]tpm2.TPMTPublic{"RSA": tpm2.RSAEKTemplate, "ECC": tpm2.ECCEKTemplate} {
		rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := rsp.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		key, err := tpm2.Pub(*pub)
		if err != nil {
			t.Fatal(err)
		}
		got, err := quote.EKName(key)
		if err != nil || !bytes.Equal(got, rsp.Name.Buffer) {
			t.Errorf("%s: %x, %v; the TPM says %x", name, got, err, rsp.Name.Buffer)
		}
		if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(tpm); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuoteSaysWhatIsMissing(t *testing.T) {
	tpm := startTPM(t)
	if _, err := Quote(t.Context(), "unix:"+tpm, nonce, nil); !errors.Is(err, nv.ErrNoRecord) || hint.Of(err) == "" {
		t.Errorf("without a record: %v", err)
	}
	chunks := nv.Chunks(make([]byte, 3000))
	define(t, tpm, nv.Base, chunks[0])
	if _, err := Quote(t.Context(), "unix:"+tpm, nonce, nil); !errors.Is(err, nv.ErrTorn) {
		t.Errorf("with half a record: %v", err)
	}
	define(t, tpm, nv.Base+1, nil)
	if _, err := Quote(t.Context(), "unix:"+tpm, nonce, nil); !errors.Is(err, nv.ErrTorn) {
		t.Errorf("with a piece that was never written: %v", err)
	}
	if _, err := Quote(t.Context(), "unix:"+tpm, nil, nil); err == nil {
		t.Error("no nonce: no error")
	}
	if _, err := Quote(t.Context(), "unix:"+tpm+".absent", nonce, nil); !errors.Is(err, os.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("no TPM: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Quote(ctx, "unix:"+tpm, nonce, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// hostRecord makes a record as a host does, with its TPM's AK that is not enrolled.
func hostRecord(t *testing.T, host string, cert, ekName []byte) []byte {
	t.Helper()
	tpm := open1(t, host)
	ak, err := createAK(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer ak.flush(tpm)
	sum := sha256.Sum256(cert)
	claims, err := quote.Claims{
		Version: 1, VMUUID: vm, VMName: "ovsa_runtime", HostID: quote.HostID(nil, ak.handle.Name.Buffer),
		EKs:    []quote.EKClaim{{Algorithm: quote.ECCP384, CertSHA256: hex.EncodeToString(sum[:]), Name: hex.EncodeToString(ekName)}},
		Serial: "000102030405060708090a0b0c0d0e0f", Lineage: "101112131415161718191a1b1c1d1e1f", Time: "2026-11-23T11:59:00Z",
	}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	extra := quote.BindExtraData(claims)
	q, err := attest.Quote(tpm, ak.handle, quote.DefaultPCRs(), extra[:])
	if err != nil {
		t.Fatal(err)
	}
	record, err := quote.Record{Claims: claims, Attest: q.Attest, Signature: q.Signature, PCRs: q.PCRs, AK: ak.public, Simulated: true}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func newCA(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vTPM CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// installEK issues a certificate for an EK of the TPM and keeps it there, with
// padding after it as some TPMs have.
func installEK(t *testing.T, path string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (der, name []byte) {
	t.Helper()
	tpm := open1(t, path)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := rsp.OutPublic.Contents()
	key, err := tpm2.Pub(*pub)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
	}
	if der, err = x509.CreateCertificate(rand.Reader, tmpl, ca, key, caKey); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	tpm.Close()
	define(t, path, nvECCCert, append(bytes.Clone(der), 0xff, 0xff, 0xff))
	return der, rsp.Name.Buffer
}
