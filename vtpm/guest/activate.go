package guest

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
)

// ErrCredential says that a challenge was made for another TPM or another
// attestation key.
var ErrCredential = roots.ErrCredential

// Identity is what a guest's TPM says it is. A verifier believes it once the
// guest has answered a challenge to it, see Activate.
type Identity struct {
	AK  []byte   `json:"ak"`  // TPMT_PUBLIC
	EKs [][]byte `json:"eks"` // DER certificates, the RSA one first
}

// Identify tells who the TPM is. It leaves nothing in the TPM.
func Identify(ctx context.Context, t transport.TPM) (Identity, error) {
	t = roots.Within(ctx, t)
	certs, err := readCerts(t)
	if err != nil {
		return Identity{}, err
	}
	ak, err := createAK(t)
	if err != nil {
		return Identity{}, err
	}
	ak.flush(t)
	return Identity{AK: ak.public, EKs: certs}, nil
}

// Activate answers the challenge of quote.MakeCredential for the RSA 2048 EK and
// the AK of Identify: the TPM gives the secret only when both keys are in it.
// It leaves nothing in the TPM.
func Activate(ctx context.Context, t transport.TPM, credential, encryptedSecret []byte) ([]byte, error) {
	t = roots.Within(ctx, t)
	ak, err := createAK(t)
	if err != nil {
		return nil, err
	}
	defer ak.flush(t)
	ek, err := roots.EndorsementKey(t, tpm2.TPMAlgRSA)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	defer ek.Close(t)
	return roots.Activate(t, ak.handle, ek, credential, encryptedSecret)
}
