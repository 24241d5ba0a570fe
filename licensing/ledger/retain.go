package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Archived is an entry of the audit log outside of the database, one line of JSON in
// an archive. Its text is the entry's exact bytes, over which the chain goes.
type Archived struct {
	Seq  int64  `json:"seq"`
	Text string `json:"entry"`
	Hash string `json:"hash"` // hex
}

// base is where the audit log in the database begins: after entry seq, whose hash is
// that, or with the first.
func (l *Ledger) base(ctx context.Context) (seq int64, hash [sha256.Size]byte, err error) {
	var b []byte
	err = l.db.QueryRowContext(ctx, `SELECT seq, hash FROM audit_base WHERE id = 1`).Scan(&seq, &b)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, genesis(), nil
	}
	if err == nil && len(b) != sha256.Size {
		err = fmt.Errorf("its hash has %d bytes", len(b))
	}
	if err != nil {
		return 0, hash, fmt.Errorf("read beginning of audit log: %w", err)
	}
	return seq, [sha256.Size]byte(b), nil
}

// ArchiveAudit calls f with the entries of the audit log from its beginning to the
// last before a time, which it returns, 0 for none. It changes nothing: see DropAudit.
func (l *Ledger) ArchiveAudit(ctx context.Context, before time.Time, f func(Archived) error) (last int64, err error) {
	from, _, err := l.base(ctx)
	if err != nil {
		return 0, err
	}
	err = l.eachEntry(ctx, from, func(seq int64, entry, hash []byte) error {
		var e Entry
		if err := json.Unmarshal(entry, &e); err != nil {
			return fmt.Errorf("entry %d: %w: %w", seq, ErrTampered, err)
		}
		if !e.At.Before(before) {
			return errEnough
		}
		last = seq
		return f(Archived{seq, string(entry), hex.EncodeToString(hash)})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return last, err
}

// DropAudit removes the entries of the audit log to the one numbered last, which the
// caller has archived. What follows verifies as before, from that entry's hash on. The
// last entry of all stays.
func (l *Ledger) DropAudit(ctx context.Context, last int64, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		var hash []byte
		err := t.tx.QueryRowContext(t.ctx, `SELECT hash FROM audit WHERE seq = $1 AND seq < (SELECT seq FROM head WHERE id = 1)`, last).Scan(&hash)
		if errors.Is(err, sql.ErrNoRows) {
			return &refused{fmt.Errorf("entry %d is not there, or the last", last)}
		}
		if err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO audit_base VALUES (1, $1, $2)
			ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`, last, hash); err != nil {
			return err
		}
		done, err := t.tx.ExecContext(t.ctx, `DELETE FROM audit WHERE seq <= $1`, last)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return err
		}
		return t.log(Entry{At: now, What: "prune", Count: times(int(n))}, nil)
	})
	if err != nil {
		return fmt.Errorf("drop entries of the audit log: %w", err)
	}
	return nil
}

// Chain verifies archived entries that follow each other, from the first ever or from
// where an earlier archive ended.
type Chain struct {
	// Known is the hash of an entry to look for; nil for none.
	Known []byte
	// Found says that it is that of one.
	Found bool

	seq  int64
	hash [sha256.Size]byte
	any  bool
}

// Add takes the next entry. ErrTampered says that it does not follow.
func (c *Chain) Add(a Archived) error {
	if !c.any {
		c.hash, c.any = genesis(), true
	}
	want := chain(c.hash, a.Seq, []byte(a.Text))
	if a.Seq != c.seq+1 || hex.EncodeToString(want[:]) != a.Hash {
		return fmt.Errorf("entry %d: %w", a.Seq, ErrTampered)
	}
	c.seq, c.hash = a.Seq, want
	c.Found = c.Found || bytes.Equal(c.Known, want[:])
	return nil
}

// Joins says whether the audit log in the database goes on where the archives end.
func (l *Ledger) Joins(ctx context.Context, c Chain) error {
	seq, hash, err := l.base(ctx)
	if err != nil {
		return err
	}
	if seq != c.seq || seq > 0 && hash != c.hash {
		return fmt.Errorf("%w: the archives end with entry %d, and the database begins after entry %d", ErrTampered, c.seq, seq)
	}
	return nil
}
