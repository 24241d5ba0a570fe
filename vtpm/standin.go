package vtpm

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// MeasureStandIn extends the boot PCRs of a software TPM that plays a host's, as
// firmware would: a verifier refuses registers that nothing was measured into.
// It is for labs and tests. tpm is unix:PATH.
func MeasureStandIn(ctx context.Context, tpm string) error {
	t, err := guest.Open(ctx, tpm)
	if err != nil {
		return fmt.Errorf("measure stand-in TPM: %w", err)
	}
	defer t.Close()
	for pcr := range 8 {
		digest := sha256.Sum256(fmt.Appendf(nil, "ovsactl stand-in, PCR %d", pcr))
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{
				HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:],
			}}},
		}.Execute(t)
		if err != nil {
			return fmt.Errorf("measure stand-in TPM: %w", err)
		}
	}
	return nil
}
