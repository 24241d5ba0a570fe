package vtpm_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// TestLockoutOfTheHostTPM: what binding uses is not protected against dictionary
// attacks, so that nobody's wrong passwords keep the guests from starting.
func TestLockoutOfTheHostTPM(t *testing.T) {
	host := vtpmtest.New(t)
	lockOut(t, host.TPM)
	h := host.Open(t)
	if err := errors.Join(h.Manufacture(t.Context(), id), h.Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	if s, err := h.Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Bound {
		t.Errorf("%+v, %v", s, err)
	}
}

// lockOut gives wrong passwords until the TPM takes none.
func lockOut(t *testing.T, path string) {
	t.Helper()
	dev, err := guest.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	protected, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("sealed")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
		}),
	}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: protected.ObjectHandle}.Execute(dev)
	for range 100 {
		_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: protected.ObjectHandle, Name: protected.Name, Auth: tpm2.PasswordAuth([]byte("wrong")),
		}}.Execute(dev)
		if errors.Is(err, tpm2.TPMRCLockout) {
			return
		}
	}
	t.Fatal("the TPM never locked anybody out")
}
