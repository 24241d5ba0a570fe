package vtpm_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// TestReleaseToAProvenGuest is the whole way: a host is enrolled and binds a vTPM;
// its guest answers a challenge, quotes, and receives a secret that its TPM alone
// can open, in its present state.
func TestReleaseToAProvenGuest(t *testing.T) {
	host, s := vtpmtest.New(t), newService(t)
	h := host.Open(t)
	s.trustedBy(t, host)
	if err := h.InstallAKCert(t.Context(), s.issue(t, enrolment(t, h), nil)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Manufacture(t.Context(), id), h.Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	path, _ := host.StartGuest(t, id.UUID)
	tpm, err := guest.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()

	// The guest says who it is, and proves that its keys are in one TPM.
	self, err := guest.Identify(t.Context(), tpm)
	if err != nil {
		t.Fatal(err)
	}
	credential, encrypted := challenge(t, self.EKs[0], self.AK)
	if got, err := guest.Activate(t.Context(), tpm, credential, encrypted); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("activate: %q, %v", got, err)
	}
	name, err := quote.AKName(self.AK)
	if err != nil {
		t.Fatal(err)
	}

	// It makes a key, and evidence for the same nonce.
	nonce, info := bytes.Repeat([]byte{7}, 32), []byte("licence")
	key, err := guest.NewReleaseKey(t.Context(), tpm, quote.DefaultGuestPCRs())
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	certification, err := key.Certify(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := guest.Make(t.Context(), tpm, nonce, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	document, err := evidence.Marshal()
	if err != nil {
		t.Fatal(err)
	}

	// The verifier believes all of it together.
	r := quote.VerifyEvidence(document, nonce, quote.EvidencePolicy{
		Record: quote.Policy{
			Trust:     readPEM(t, host.DataDir, "vtpm", "trust", "vendor.pem"),
			AKIssuers: []*x509.Certificate{s.cert},
			VTPMRoots: readPEM(t, host.DataDir, "vtpm", "ca", "ca.pem"),
			VM:        id.UUID, Now: time.Now(),
		},
		Activated: &quote.Activation{AKName: name, EKCert: self.EKs[0]},
	})
	if !r.OK() || r.Step(quote.StepActivation).Status != quote.Passed {
		t.Fatal(r.Err(), r.Step(quote.StepActivation))
	}
	policy, err := quote.PolicyPCRDigest(r.Evidence.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	public, err := quote.VerifyCertify(certification, r.Evidence.AK, nonce, policy)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := quote.SealToRelease(public, info, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open(t.Context(), info, sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
}

func readPEM(t *testing.T, path ...string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert}
}
