// Package pcr selects and reads a TPM's registers, in the SHA-256 bank alone.
package pcr

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Selection selects registers, which must be less than 24.
func Selection(pcrs []int) tpm2.TPMLPCRSelection {
	var indices []uint
	for _, i := range pcrs {
		indices = append(indices, uint(i))
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(indices...),
	}}}
}

// Read reads the values of registers, in their order; one command gives at most
// eight.
func Read(t transport.TPM, pcrs []int) ([]quote.PCR, error) {
	var values []quote.PCR
	for some := range slices.Chunk(pcrs, 8) {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: Selection(some)}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(rsp.PCRValues.Digests) != len(some) {
			return nil, hint.Wrap(fmt.Errorf("read PCRs: the TPM gave %d of %d", len(rsp.PCRValues.Digests), len(some)), "turn the TPM's SHA-256 bank on")
		}
		for i, d := range rsp.PCRValues.Digests {
			values = append(values, quote.PCR{Index: some[i], Digest: d.Buffer})
		}
	}
	return values, nil
}
