package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Attest has the host's TPM vouch for one proof of the VM with that UUID, which
// the caller has to know by itself: a quote with the host's attestation key, over
// the request and the record that Bind wrote last. It makes no key and changes
// nothing. A VM that was never bound is ErrMissing.
func (h *Host) Attest(ctx context.Context, uuid string, request quote.HostRequest) (quote.HostQuote, error) {
	if err := checkUUID(uuid); err != nil {
		return quote.HostQuote{}, err
	}
	record, err := os.ReadFile(h.recordPath(uuid))
	if errors.Is(err, fs.ErrNotExist) {
		return quote.HostQuote{}, fmt.Errorf("vouch for a proof of %s: %w", uuid, ErrMissing)
	}
	if err != nil {
		return quote.HostQuote{}, fmt.Errorf("vouch for a proof of %s: %w", uuid, err)
	}
	extra := quote.HostExtraData(request.Nonce, uuid, quote.Digest(record), request.AK)
	var q attest.Signed
	err = h.withHostTPM(ctx, func(t transport.TPM) error {
		name, _, err := objectName(t, akHandle)
		if err != nil {
			return err
		}
		q, err = attest.Quote(t, tpm2.NamedHandle{Handle: akHandle, Name: tpm2.TPM2BName{Buffer: name}}, quote.DefaultPCRs(), extra[:])
		return err
	})
	if err != nil {
		return quote.HostQuote{}, fmt.Errorf("vouch for a proof of %s: %w", uuid, err)
	}
	return quote.HostQuote{Attest: q.Attest, Signature: q.Signature, PCRs: q.PCRs}, nil
}
