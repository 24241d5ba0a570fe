package ledger

import (
	"context"
	"fmt"
	"time"
)

// Enrol decides whether a host's attestation key, by its TPM name in hex, may be
// certified: ErrRevoked when the key or the host is not to be believed any more.
// The certificate itself is not kept.
func (l *Ledger) Enrol(ctx context.Context, hostID, akName string, now time.Time) error {
	host, ak := Subject{KindHost, hostID}, Subject{KindAK, akName}
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		return t.log(Entry{At: now, What: "enrol", Subject: &host}, t.revoked(host, ak))
	})
	if err != nil {
		return fmt.Errorf("enrol host %q: %w", hostID, err)
	}
	return nil
}
