package guest

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/attest"
)

type attestationKey struct {
	handle tpm2.NamedHandle
	public []byte
}

// createAK makes the guest's AK.
func createAK(t transport.TPM) (attestationKey, error) {
	rsp, err := attest.Create(t)
	if err != nil {
		return attestationKey{}, fmt.Errorf("create the attestation key: %w", err)
	}
	return attestationKey{tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, rsp.OutPublic.Bytes()}, nil
}

func (k attestationKey) flush(t transport.TPM) {
	// When this fails the TPM is gone, or its resource manager flushes.
	_, _ = tpm2.FlushContext{FlushHandle: k.handle.Handle}.Execute(t)
}
