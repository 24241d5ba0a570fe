package ledger

import (
	"context"
	"fmt"
	"time"
)

// sweepEvery is how often challenges that are over are removed.
const sweepEvery = time.Second

// Offer keeps what a server has to remember of a challenge until it is answered
// or over. Challenges that are over go, soon.
func (l *Ledger) Offer(ctx context.Context, id string, data []byte, expires, now time.Time) error {
	err := l.challenges.doWith(ctx, needs{offers: true}, func(t *txn) error {
		if now.Sub(unstamp(l.swept.Load())) >= sweepEvery {
			if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM challenges WHERE expires <= $1`, stamp(now)); err != nil {
				return err
			}
			l.swept.Store(stamp(now))
		}
		t.pending.offered = append(t.pending.offered, []any{id, data, stamp(expires)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep challenge: %w", err)
	}
	return nil
}

// Take returns what Offer kept, once: of two that ask at the same time, on
// whatever server, one gets ErrChallenge.
func (l *Ledger) Take(ctx context.Context, id string, now time.Time) ([]byte, error) {
	var data []byte
	err := l.challenges.doWith(ctx, needs{take: id}, func(t *txn) error {
		c, ok := t.ahead.taken[id]
		delete(t.ahead.taken, id)
		if !ok || c.expires <= stamp(now) {
			return &refused{ErrChallenge} // and it is gone
		}
		data = c.data
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take challenge: %w", err)
	}
	return data, nil
}
