package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrNoRefusal says that no refused request of that name is remembered.
var ErrNoRefusal = errors.New("no such refusal")

// Refusal is a request that a server refused, so that its administrator may ask why.
// It is no decision of the ledger's and in no audit log, and only the latest are kept.
type Refusal struct {
	Request     string // its name
	At          time.Time
	GUID, Model string // the licence that it was about; "" for none, or none that was proven
	Data        []byte // the server's
}

// Remember keeps a refusal, and forgets all but the keep latest of the same licence.
func (l *Ledger) Remember(ctx context.Context, r Refusal, keep int) error {
	// Beside the challenges, so that no claim waits for it.
	err := l.challenges.do(ctx, func(t *txn) error {
		if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO refusals VALUES ($1, $2, $3, $4, $5) ON CONFLICT (request) DO NOTHING`,
			r.Request, r.GUID, r.Model, stamp(r.At), r.Data); err != nil {
			return err
		}
		_, err := t.tx.ExecContext(t.ctx, `DELETE FROM refusals WHERE guid = $1 AND model = $2 AND request NOT IN (
			SELECT request FROM refusals WHERE guid = $1 AND model = $2 ORDER BY at DESC, request LIMIT $3)`, r.GUID, r.Model, keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("remember refusal %q: %w", r.Request, err)
	}
	return nil
}

// Refusal returns what is remembered of a request: ErrNoRefusal when that is nothing.
func (l *Ledger) Refusal(ctx context.Context, request string) (Refusal, error) {
	r := Refusal{Request: request}
	var at int64
	err := l.db.QueryRowContext(ctx, `SELECT guid, model, at, data FROM refusals WHERE request = $1`, request).
		Scan(&r.GUID, &r.Model, &at, &r.Data)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRefusal
	}
	if err != nil {
		return Refusal{}, fmt.Errorf("look up refusal %q: %w", request, err)
	}
	r.At = unstamp(at)
	return r, nil
}

// KeepLog keeps the event logs of the first guest that was in a TCB, as a reference
// for guests that are not. data is the server's; later ones change nothing.
func (l *Ledger) KeepLog(ctx context.Context, tcb string, data []byte, now time.Time) error {
	err := l.challenges.do(ctx, func(t *txn) error {
		_, err := t.tx.ExecContext(t.ctx, `INSERT INTO event_logs VALUES ($1, $2, $3) ON CONFLICT (tcb) DO NOTHING`, tcb, stamp(now), data)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep event log of TCB %q: %w", tcb, err)
	}
	return nil
}

// Log returns what KeepLog kept for a TCB; nil for nothing.
func (l *Ledger) Log(ctx context.Context, tcb string) ([]byte, error) {
	var data []byte
	err := l.db.QueryRowContext(ctx, `SELECT data FROM event_logs WHERE tcb = $1`, tcb).Scan(&data)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("look up event log of TCB %q: %w", tcb, err)
	}
	return data, nil
}
