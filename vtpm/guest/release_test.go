package guest_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var (
	nonce = bytes.Repeat([]byte{7}, 32)
	pcrs  = []int{0, 4, 7}
	info  = []byte("licence and nonce")
)

func newReleaseKey(t *testing.T, tpm transport.TPM) *guest.ReleaseKey {
	t.Helper()
	k, err := guest.NewReleaseKey(t.Context(), tpm, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// policyNow is the policy that a verifier computes of registers it found good.
func policyNow(t *testing.T, tpm transport.TPM) []byte {
	t.Helper()
	values, err := attest.ReadPCRs(tpm, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := quote.PolicyPCRDigest(values)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func certify(t *testing.T, k *guest.ReleaseKey) quote.Certification {
	t.Helper()
	c, err := k.Certify(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func extend(t *testing.T, tpm transport.TPM, pcr tpm2.TPMHandle) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: pcr, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{9}, 32)}}},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

// sealTo verifies a certification as a server does, and seals to the key.
func sealTo(t *testing.T, tpm transport.TPM, k *guest.ReleaseKey) []byte {
	t.Helper()
	_, ak := identify(t, tpm)
	key, err := quote.VerifyCertify(certify(t, k), ak, nonce, policyNow(t, tpm))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := quote.SealToRelease(key, info, secret)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestReleaseKey(t *testing.T) {
	tpm := openTPM(t)
	l := &listener{TPM: tpm}
	k := newReleaseKey(t, l)
	sealed := sealTo(t, l, k)
	for range 3 {
		if got, err := k.Open(t.Context(), info, sealed); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if got, err := k.Open(t.Context(), []byte("other"), sealed); err == nil {
		t.Errorf("opened with other info: %q", got)
	}
	sealed[len(sealed)-1] ^= 1
	if got, err := k.Open(t.Context(), info, sealed); err == nil {
		t.Errorf("opened after a change: %q", got)
	}
	if _, err := k.Open(t.Context(), info, nil); err == nil {
		t.Error("opened nothing")
	}
	if !bytes.Contains(l.heard, k.Public()) {
		t.Error("the listener is deaf")
	}
	k.Close()
	empty(t, tpm)
}

// In the middle of a proof all of its keys are in the TPM at once, which has
// room for three.
func TestActivateWhileAReleaseKeyIsOpen(t *testing.T) {
	tpm := openTPM(t)
	k := newReleaseKey(t, tpm)
	credential, encrypted := challenge(t, first(identify(t, tpm)), second(identify(t, tpm)))
	if got, err := guest.Activate(t.Context(), tpm, credential, encrypted); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
	k.Close()
	empty(t, tpm)
}

func TestEachReleaseKeyIsAnother(t *testing.T) {
	tpm := openTPM(t)
	a := newReleaseKey(t, tpm)
	sealed, first := sealTo(t, tpm, a), a.Public()
	a.Close()
	b := newReleaseKey(t, tpm)
	defer b.Close()
	if bytes.Equal(first, b.Public()) {
		t.Error("the same key twice")
	}
	if got, err := b.Open(t.Context(), info, sealed); err == nil {
		t.Errorf("the next key opened %q", got)
	}
	if _, err := a.Open(t.Context(), info, sealed); err == nil {
		t.Error("a closed key opened it")
	}
}

func TestReleaseKeyOnlyUnderItsPCRs(t *testing.T) {
	tpm := openTPM(t)
	k := newReleaseKey(t, tpm)
	sealed := sealTo(t, tpm, k)
	extend(t, tpm, 5)
	if got, err := k.Open(t.Context(), info, sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after another register changed: %q, %v", got, err)
	}
	extend(t, tpm, 4)
	got, err := k.Open(t.Context(), info, sealed)
	if !errors.Is(err, guest.ErrPolicy) || got != nil || !strings.Contains(err.Error(), "[0 4 7]") || hint.Of(err) == "" {
		t.Errorf("got %q, %v", got, err)
	}
	// Nor would a verifier believe it for the registers as they are now.
	_, ak := identify(t, tpm)
	if _, err := quote.VerifyCertify(certify(t, k), ak, nonce, policyNow(t, tpm)); err == nil {
		t.Error("verified under another policy")
	}
	k.Close()
	empty(t, tpm)
}

func TestReleaseKeyEndsWithTheBoot(t *testing.T) {
	h := vtpmtest.New(t)
	tpm, err := guest.Open(t.Context(), h.TPM)
	if err != nil {
		t.Fatal(err)
	}
	k := newReleaseKey(t, tpm)
	sealed := sealTo(t, tpm, k)
	tpm.Close()
	h.Boot(t)
	if got, err := k.Open(t.Context(), info, sealed); err == nil {
		t.Errorf("opened %q", got)
	}
}

func TestReleaseKeyRefusesRegisters(t *testing.T) {
	tpm := openTPM(t)
	for _, bad := range [][]int{nil, {7, 4}, {16}, {23}, {24}} {
		if _, err := guest.NewReleaseKey(t.Context(), tpm, bad); err == nil {
			t.Errorf("made under %v", bad)
		}
	}
	k := newReleaseKey(t, tpm)
	if _, err := k.Certify(t.Context(), nil); err == nil {
		t.Error("certified for no nonce")
	}
	k.Close()
	empty(t, tpm)
}

// What a real TPM certifies is believed for exactly what it is about.
func TestCertificationsThatFail(t *testing.T) {
	tpm, other := openTPM(t), openTPM(t)
	k := newReleaseKey(t, tpm)
	defer k.Close()
	o := newReleaseKey(t, other)
	defer o.Close()
	_, ak := identify(t, tpm)
	_, otherAK := identify(t, other)
	policy := policyNow(t, tpm)
	good, foreign := certify(t, k), certify(t, o)
	swapped := good
	swapped.Public = foreign.Public
	for what, verify := range map[string]func() (*ecdh.PublicKey, error){
		"another AK":        func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(good, otherAK, nonce, policy) },
		"another TPM's":     func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(foreign, ak, nonce, policy) },
		"a swapped key":     func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(swapped, ak, nonce, policy) },
		"another nonce":     func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(good, ak, make([]byte, 32), policy) },
		"another policy":    func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(good, ak, nonce, make([]byte, 32)) },
		"the key as its AK": func() (*ecdh.PublicKey, error) { return quote.VerifyCertify(good, good.Public, nonce, policy) },
	} {
		if _, err := verify(); err == nil {
			t.Errorf("%s: verified", what)
		}
	}
	if _, err := quote.VerifyCertify(good, ak, nonce, policy); err != nil {
		t.Error(err)
	}
}

// A TPM certifies keys of any kind and place; the verifier does not.
func TestOtherKeysAreNotReleaseKeys(t *testing.T) {
	tpm := openTPM(t)
	k := newReleaseKey(t, tpm)
	template, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.Public())
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	policy := policyNow(t, tpm)
	_, ak := identify(t, tpm)
	for what, c := range map[string]struct {
		keyIn, akIn tpm2.TPMHandle
		change      func(*tpm2.TPMTPublic)
		want        string
	}{
		"as it should be":        {tpm2.TPMRHEndorsement, tpm2.TPMRHEndorsement, func(*tpm2.TPMTPublic) {}, ""},
		"used with a password":   {tpm2.TPMRHEndorsement, tpm2.TPMRHEndorsement, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true }, "attributes"},
		"no policy":              {tpm2.TPMRHEndorsement, tpm2.TPMRHEndorsement, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil }, "attributes"},
		"signs too":              {tpm2.TPMRHEndorsement, tpm2.TPMRHEndorsement, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true; noScheme(p) }, "attributes"},
		"any scheme":             {tpm2.TPMRHEndorsement, tpm2.TPMRHEndorsement, noScheme, "not a key for ECDH"},
		"the owner's key":        {tpm2.TPMRHOwner, tpm2.TPMRHEndorsement, func(*tpm2.TPMTPublic) {}, "endorsement hierarchy"},
		"the owner's AK":         {tpm2.TPMRHEndorsement, tpm2.TPMRHOwner, func(*tpm2.TPMTPublic) {}, "endorsement hierarchy"},
		"a key of the null tree": {tpm2.TPMRHNull, tpm2.TPMRHEndorsement, func(*tpm2.TPMTPublic) {}, "endorsement hierarchy"},
	} {
		t.Run(what, func(t *testing.T) {
			public := *template
			c.change(&public)
			key, signer := primary(t, tpm, c.keyIn, public), primary(t, tpm, c.akIn, attest.Template())
			defer tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(tpm)
			defer tpm2.FlushContext{FlushHandle: signer.ObjectHandle}.Execute(tpm)
			extra := quote.ReleaseExtraData(nonce)
			rsp, err := tpm2.Certify{
				ObjectHandle:   tpm2.AuthHandle{Handle: key.ObjectHandle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
				SignHandle:     tpm2.AuthHandle{Handle: signer.ObjectHandle, Name: signer.Name, Auth: tpm2.PasswordAuth(nil)},
				QualifyingData: tpm2.TPM2BData{Buffer: extra[:]},
				InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			}.Execute(tpm)
			if err != nil {
				t.Fatal(err)
			}
			by := ak
			if c.akIn != tpm2.TPMRHEndorsement {
				by = signer.OutPublic.Bytes()
			}
			certification := quote.Certification{Public: key.OutPublic.Bytes(), Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}
			_, err = quote.VerifyCertify(certification, by, nonce, policy)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	empty(t, tpm)
}

func noScheme(p *tpm2.TPMTPublic) {
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
}

func primary(t *testing.T, tpm transport.TPM, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) *tpm2.CreatePrimaryResponse {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return rsp
}
