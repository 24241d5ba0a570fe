package guest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var secret = []byte("a secret of thirty-two bytes, ok")

// openTPM opens a TPM of its own, with EK certificates.
func openTPM(t *testing.T) *guest.TPM {
	t.Helper()
	tpm, err := guest.Open(t.Context(), vtpmtest.New(t).TPM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm
}

// empty insists that nothing is left in a TPM.
func empty(t *testing.T, tpm transport.TPM) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // objects, HMAC and policy sessions
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles.Handle) > 0 {
			t.Errorf("left in the TPM: %#x", handles.Handle)
		}
	}
}

// identify is what a verifier learns: the key of the RSA EK's certificate, and
// the AK.
func identify(t *testing.T, tpm transport.TPM) (ek crypto.PublicKey, ak []byte) {
	t.Helper()
	id, err := guest.Identify(t.Context(), tpm)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(id.EKs[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey, id.AK
}

func challenge(t *testing.T, ek crypto.PublicKey, ak []byte) (credential, encrypted []byte) {
	t.Helper()
	name, err := quote.AKName(ak)
	if err != nil {
		t.Fatal(err)
	}
	credential, encrypted, err = quote.MakeCredential(ek, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	return credential, encrypted
}

func TestActivate(t *testing.T) {
	tpm := openTPM(t)
	credential, encrypted := challenge(t, first(identify(t, tpm)), second(identify(t, tpm)))
	l := &listener{TPM: tpm}
	got, err := guest.Activate(t.Context(), l, credential, encrypted)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("got %q, %v", got, err)
	}
	if bytes.Contains(l.heard, secret[:8]) || !bytes.Contains(l.heard, credential) {
		t.Error("the secret passed in clear, or the listener is deaf")
	}
	empty(t, tpm)
}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }

// listener hears all that passes on the bus.
type listener struct {
	transport.TPM
	heard []byte
}

func (l *listener) Send(command []byte) ([]byte, error) {
	rsp, err := l.TPM.Send(command)
	l.heard = append(append(l.heard, command...), rsp...)
	return rsp, err
}

func TestActivateRefuses(t *testing.T) {
	tpm, other := openTPM(t), openTPM(t)
	ek, ak := identify(t, tpm)
	otherEK, otherAK := identify(t, other)
	refused := func(what string, credential, encrypted []byte) {
		t.Helper()
		got, err := guest.Activate(t.Context(), tpm, credential, encrypted)
		if !errors.Is(err, guest.ErrCredential) || got != nil {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	c, e := challenge(t, otherEK, ak)
	refused("the EK of another TPM", c, e)
	c, e = challenge(t, ek, otherAK)
	refused("the AK of another TPM", c, e)
	c, e = challenge(t, ek, softwareAK(t))
	refused("a software AK with a stolen EK certificate", c, e)

	c, e = challenge(t, ek, ak)
	for i := range c {
		bad := append([]byte{}, c...)
		bad[i] ^= 1
		refused("a changed credential", bad, e)
	}
	for _, i := range []int{0, len(e) / 2, len(e) - 1} {
		bad := append([]byte{}, e...)
		bad[i] ^= 1
		refused("a changed secret", c, bad)
	}
	_, e2 := challenge(t, ek, ak)
	refused("the secret of another credential", c, e2)
	refused("nothing", nil, nil)
	refused("a byte more", append(append([]byte{}, c...), 0), e)
	refused("an oversized credential", make([]byte, 1<<17), e)
	empty(t, tpm)
}

// softwareAK is a public area as an AK's, of a key that no TPM has.
func softwareAK(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pub := attest.Template()
	pub.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	return tpm2.Marshal(pub)
}

// ECC endorsement keys take credentials too.
func TestMakeCredentialForECC(t *testing.T) {
	tpm := openTPM(t)
	_, ak := identify(t, tpm)
	created, err := attest.Create(tpm)
	if err != nil {
		t.Fatal(err)
	}
	akHandle := tpm2.NamedHandle{Handle: created.ObjectHandle, Name: created.Name}
	defer tpm2.FlushContext{FlushHandle: created.ObjectHandle}.Execute(tpm)

	t.Run("P-256", func(t *testing.T) {
		ek, err := roots.EndorsementKey(tpm, tpm2.TPMAlgECC)
		if err != nil {
			t.Fatal(err)
		}
		defer ek.Close(tpm)
		pub, err := tpm2.Pub(ek.Public)
		if err != nil {
			t.Fatal(err)
		}
		c, e := challenge(t, pub, ak)
		if got, err := roots.Activate(tpm, akHandle, ek, c, e); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("P-384", func(t *testing.T) {
		const handle = tpm2.TPMHandle(0x81010016)
		rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		public, err := rsp.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := tpm2.Pub(*public)
		if err != nil {
			t.Fatal(err)
		}
		c, e := challenge(t, pub, ak)
		got, err := tpm2.ActivateCredential{ // template H may be used with a password
			ActivateHandle: tpm2.AuthHandle{Handle: akHandle.Handle, Name: akHandle.Name, Auth: tpm2.PasswordAuth(nil)},
			KeyHandle:      tpm2.AuthHandle{Handle: handle, Name: rsp.Name, Auth: tpm2.PasswordAuth(nil)},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: c}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: e},
		}.Execute(tpm)
		if err != nil || !bytes.Equal(got.CertInfo.Buffer, secret) {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// A TPM that does not keep its EK makes it, the same one.
func TestActivateWithoutKeptEK(t *testing.T) {
	tpm := openTPM(t)
	credential, encrypted := challenge(t, first(identify(t, tpm)), second(identify(t, tpm)))
	const handle = tpm2.TPMHandle(0x81010001)
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	evict := tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: handle, Name: rsp.Name}, PersistentHandle: handle,
	}
	if _, err := evict.Execute(tpm); err != nil {
		t.Fatal(err)
	}
	if got, err := guest.Activate(t.Context(), tpm, credential, encrypted); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
	empty(t, tpm)
}
