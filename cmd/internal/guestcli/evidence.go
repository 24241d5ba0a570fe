package guestcli

import (
	"context"

	"github.com/ovsactl/ovsactl/vtpm/guest"
)

func guestQuote(ctx context.Context, tpm string, nonce []byte) (any, error) {
	return guest.Quote(ctx, tpm, nonce)
}
