// Package tpmseal lets a key store be kept by a TPM: what wires licensing to vtpm.
package tpmseal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/seal"
)

// Sealer is a licensing.Sealer that seals to the TPM at an address. It opens the TPM
// for each call and leaves nothing in it.
type Sealer struct {
	Address string
	PCRs    []int // none binds to the machine alone
}

var _ licensing.Sealer = Sealer{}

// Seal implements licensing.Sealer.
func (t Sealer) Seal(ctx context.Context, secret []byte) (json.RawMessage, error) {
	tpm, err := guest.Open(ctx, t.Address)
	if err != nil {
		return nil, t.explain(err)
	}
	defer tpm.Close()
	var blob *seal.Blob
	if len(t.PCRs) == 0 {
		blob, err = seal.SealUnbound(ctx, tpm, secret)
	} else {
		blob, err = seal.Seal(ctx, tpm, secret, t.PCRs)
	}
	if err != nil {
		return nil, fmt.Errorf("TPM %s: %w", t.Address, err)
	}
	return blob.Marshal()
}

// Unseal implements licensing.Sealer.
func (t Sealer) Unseal(ctx context.Context, sealed json.RawMessage) ([]byte, error) {
	blob, err := seal.ParseBlob(sealed)
	if err != nil {
		return nil, err
	}
	tpm, err := guest.Open(ctx, t.Address)
	if err != nil {
		return nil, t.explain(err)
	}
	defer tpm.Close()
	secret, err := blob.Unseal(ctx, tpm)
	if errors.Is(err, seal.ErrPolicy) || errors.Is(err, seal.ErrOtherTPM) {
		return nil, hint.Wrap(fmt.Errorf("TPM %s: %w", t.Address, err), "with the recovery passphrase: ovsatool keygen -reseal -k KEYSTORE")
	}
	if err != nil {
		return nil, fmt.Errorf("TPM %s: %w", t.Address, err)
	}
	return secret, nil
}

func (t Sealer) explain(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("no TPM at %s: %w", t.Address, err),
			"name it with -tpm or OVSA_TPM; for development there is keygen -storekey -insecure-software-keystore")
	}
	if errors.Is(err, os.ErrPermission) {
		return hint.Wrap(err, "run it as root, or as a member of the group that owns %s", t.Address)
	}
	return err
}
