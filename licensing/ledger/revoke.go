package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Revocation is a subject that nothing is given to any more.
type Revocation struct {
	Subject
	Reason string
	At     time.Time
}

// RevokedError is an ErrRevoked that says what is.
type RevokedError struct{ Subject }

func (e *RevokedError) Error() string { return fmt.Sprintf("%v: %s %s", ErrRevoked, e.Kind, e.ID) }

// Unwrap is ErrRevoked.
func (e *RevokedError) Unwrap() error { return ErrRevoked }

// Revoke refuses a subject from now on: claims at once, leases at their next
// renewal. Revoking it again keeps the first time and takes the new reason.
func (l *Ledger) Revoke(ctx context.Context, s Subject, reason string, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		_, err := t.tx.ExecContext(t.ctx, `INSERT INTO revocations VALUES ($1, $2, $3, $4)
			ON CONFLICT (kind, subject) DO UPDATE SET reason = excluded.reason`, string(s.Kind), s.ID, reason, stamp(now))
		if err != nil {
			return err
		}
		return t.log(Entry{At: now, What: "revoke", Subject: &s, Reason: reason}, nil)
	})
	if err != nil {
		return fmt.Errorf("revoke %s %q: %w", s.Kind, s.ID, err)
	}
	return nil
}

// Unrevoke takes a revocation back. What was not revoked is no error.
func (l *Ledger) Unrevoke(ctx context.Context, s Subject, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM revocations WHERE kind = $1 AND subject = $2`, string(s.Kind), s.ID); err != nil {
			return err
		}
		return t.log(Entry{At: now, What: "unrevoke", Subject: &s}, nil)
	})
	if err != nil {
		return fmt.Errorf("unrevoke %s %q: %w", s.Kind, s.ID, err)
	}
	return nil
}

// Revocations lists what is revoked, by kind and subject.
func (l *Ledger) Revocations(ctx context.Context) ([]Revocation, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT kind, subject, reason, at FROM revocations ORDER BY kind, subject`)
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	defer rows.Close()
	var list []Revocation
	for rows.Next() {
		var r Revocation
		var at int64
		if err := rows.Scan(&r.Kind, &r.ID, &r.Reason, &at); err != nil {
			return nil, fmt.Errorf("list revocations: %w", err)
		}
		r.At = unstamp(at)
		list = append(list, r)
	}
	return list, rows.Err()
}

// revoked refuses when one of the subjects is revoked.
func (t *txn) revoked(subjects ...Subject) error {
	if t.ahead.good(subjects) {
		return nil
	}
	var args []any
	for _, s := range subjects {
		args = append(args, string(s.Kind), s.ID)
	}
	var s Subject
	err := t.tx.QueryRowContext(t.ctx, `SELECT kind, subject FROM revocations
		WHERE (kind, subject) IN (VALUES `+rows(len(subjects), 2)+`) ORDER BY kind, subject LIMIT 1`, args...).Scan(&s.Kind, &s.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return &refused{&RevokedError{s}}
}
