package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Entry is one decision in the audit log.
type Entry struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`              // store, claim, renew, end, enrol, revoke, unrevoke, reset, reseal, archive, restore, remove, prune
	By      string    `json:"by,omitempty"`      // an address, or a user of the server's machine
	Request string    `json:"request,omitempty"` // its name in the server's log
	// Customer is who has the licence, as his certificate names him.
	Customer string `json:"customer,omitempty"`
	// Count is how often it happened: renewals of a lease since the entry before about
	// it, refusals for one reason. 0 is once.
	Count   int      `json:"count,omitempty"`
	GUID    string   `json:"licence,omitempty"`
	Model   string   `json:"model,omitempty"`
	Guest   string   `json:"guest,omitempty"`
	Lease   string   `json:"lease,omitempty"`
	Subject *Subject `json:"subject,omitempty"` // of a revocation
	Reason  string   `json:"reason,omitempty"`  // for it

	Subjects []Subject `json:"subjects,omitempty"` // of a claim
	Refused  string    `json:"refused,omitempty"`  // why; "" when it was granted
}

// head is the end of the audit log, and the latest time that a decision was
// made at, or up to seenEvery before it.
type head struct {
	seq  int64
	hash [sha256.Size]byte
	seen int64
}

// maxRows is how many entries are written by one statement.
const maxRows = 64

const (
	// maxBack is how far the clocks of several servers may differ.
	maxBack = time.Minute
	// seenEvery is how far head.seen may be behind.
	seenEvery = time.Second
)

// genesis is what the first entry follows.
func genesis() [sha256.Size]byte { return sha256.Sum256([]byte("ovsa-audit/v1\x00")) }

// chain is the hash of an entry that follows prev: SHA-256 over prev, the
// entry's number as 8 bytes big-endian, and its bytes.
func chain(prev [sha256.Size]byte, seq int64, entry []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(prev[:])
	for shift := 56; shift >= 0; shift -= 8 {
		h.Write([]byte{byte(seq >> shift)})
	}
	h.Write(entry)
	return [sha256.Size]byte(h.Sum(nil))
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// read reads the end of the log; forUpdate is a Dialect's.
func (h *head) read(ctx context.Context, q querier, forUpdate string) error {
	var hash []byte
	err := q.QueryRowContext(ctx, `SELECT seq, hash, seen FROM head WHERE id = 1`+forUpdate).Scan(&h.seq, &hash, &h.seen)
	if err == nil && len(hash) != sha256.Size {
		err = fmt.Errorf("its hash has %d bytes", len(hash))
	}
	if err != nil {
		return fmt.Errorf("read end of audit log: %w", err)
	}
	h.hash = [sha256.Size]byte(hash)
	return nil
}

// close writes what the transaction has decided. What it logs comes last: the end
// of the log is one row, for which all servers wait from here until it commits.
func (t *txn) close() error {
	if err := t.flush(); err != nil {
		return err
	}
	if len(t.entries) == 0 && t.seen < t.stored+int64(seenEvery) {
		return nil
	}
	var h head
	if err := h.read(t.ctx, t.tx, t.forUpdate); err != nil {
		return err
	}
	h.seen = max(h.seen, t.seen)
	for entries := range slices.Chunk(t.entries, maxRows) {
		var args []any
		for _, e := range entries {
			h.seq++
			h.hash = chain(h.hash, h.seq, e)
			args = append(args, h.seq, e, bytes.Clone(h.hash[:]))
		}
		if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO audit VALUES `+rows(len(entries), 3), args...); err != nil {
			return fmt.Errorf("write audit log: %w", err)
		}
	}
	if _, err := t.tx.ExecContext(t.ctx, `UPDATE head SET seq = $1, hash = $2, seen = $3 WHERE id = 1`, h.seq, h.hash[:], h.seen); err != nil {
		return fmt.Errorf("write end of audit log: %w", err)
	}
	return nil
}

// clock refuses a time that is well before one at which something was decided:
// what was over then would be valid again.
func (t *txn) clock(now time.Time) error {
	if t.seen == 0 {
		var h head
		if err := h.read(t.ctx, t.tx, ""); err != nil {
			return err
		}
		t.stored, t.seen = h.seen, h.seen
	}
	n := now.UnixNano()
	if n < t.seen+int64(seenEvery)-int64(maxBack) {
		return &refused{fmt.Errorf("%w: it is %s, and was %s", ErrClock, now.UTC().Format(time.RFC3339), unstamp(t.seen).Format(time.RFC3339))}
	}
	t.seen = max(t.seen, n)
	return nil
}

// log appends what was decided, with what else the transaction decides, and returns
// it: nil, or a refusal. Any other error is no decision, and is not logged.
func (t *txn) log(e Entry, decision error) error {
	if !decided(decision) {
		return decision
	}
	e.At, e.By, e.Request = e.At.UTC(), t.who.by, t.who.request
	if decision != nil {
		e.Refused = decision.Error()
	}
	entry, err := json.Marshal(e)
	if err != nil {
		return err
	}
	t.entries = append(t.entries, entry)
	return decision
}

// Audit calls f with the entries of the audit log after the one numbered after,
// in order, until f returns an error, and returns that.
func (l *Ledger) Audit(ctx context.Context, after int64, f func(seq int64, e Entry) error) error {
	return l.eachEntry(ctx, after, func(seq int64, entry, _ []byte) error {
		var e Entry
		if err := json.Unmarshal(entry, &e); err != nil {
			return fmt.Errorf("entry %d: %w: %w", seq, ErrTampered, err)
		}
		return f(seq, e)
	})
}

// VerifyAudit walks the whole chain. It returns how many entries there are and
// the hash of the last, which a prudent administrator keeps elsewhere: a log
// that was cut short and its head with it still verifies. Such a hash, known, has to
// be that of an entry; nil asks for none. ErrTampered says which entry does not follow
// from those before it. ErrUnknown says that known is none that is here, and may be
// that of an entry which was archived: see Chain.
func (l *Ledger) VerifyAudit(ctx context.Context, known []byte) (entries int64, last [sha256.Size]byte, err error) {
	var end head
	if err := end.read(ctx, l.db, ""); err != nil {
		return 0, last, err
	}
	if entries, last, err = l.base(ctx); err != nil {
		return 0, last, err
	}
	begin := entries
	found := known == nil || bytes.Equal(known, last[:])
	err = l.eachEntry(ctx, entries, func(seq int64, entry, hash []byte) error {
		if seq > end.seq {
			return errEnough // written meanwhile
		}
		if seq != entries+1 {
			return fmt.Errorf("entry %d: %w: entry %d is missing", seq, ErrTampered, entries+1)
		}
		last = chain(last, seq, entry)
		if !bytes.Equal(last[:], hash) {
			return fmt.Errorf("entry %d: %w", seq, ErrTampered)
		}
		entries = seq
		found = found || bytes.Equal(known, hash)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil && (entries != end.seq || last != end.hash) {
		err = fmt.Errorf("%w: it ends with entry %d, and should with %d", ErrTampered, entries, end.seq)
	}
	if err == nil && !found && begin > 0 {
		err = fmt.Errorf("%w: %x", ErrUnknown, known)
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: no entry has the hash %x: it was cut short, or is another log", ErrTampered, known)
	}
	return entries, last, err
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

func (l *Ledger) eachEntry(ctx context.Context, after int64, f func(seq int64, entry, hash []byte) error) error {
	rows, err := l.db.QueryContext(ctx, `SELECT seq, entry, hash FROM audit WHERE seq > $1 ORDER BY seq`, after)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var entry, hash []byte
		if err := rows.Scan(&seq, &entry, &hash); err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		if err := f(seq, entry, hash); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// rows are n rows of placeholders in SQL.
func rows(n, columns int) string {
	var b strings.Builder
	for i := range n * columns {
		switch {
		case i == 0:
			b.WriteByte('(')
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	b.WriteByte(')')
	return b.String()
}
