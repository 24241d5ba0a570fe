package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Claim asks for a lease.
type Claim struct {
	GUID, Model string
	Guest       string
	Customer    string    // who has the licence, for the log
	VM          string    // in which the guest runs, as its host says: a UUID
	Clock       Clock     // of the guest's TPM
	Life        string    // what is that TPM's alone until its next reset
	Lineage     string    // of the TPM's state, as its host says
	Host        HostBoot  // on which the guest runs
	Subjects    []Subject // what else must not be revoked, now and at renewals; the licence is one by itself
	Expires     time.Time // a TimeLimit's end comes before it
}

// Claim decides on a claim and counts it. A guest that holds a lease of the
// licence gets a new one in its place, which takes no other slot. The errors of
// a decision are ErrNoLicence, ErrArchived, ErrRevoked, ErrExpired, ErrExhausted,
// ErrRolledBack, ErrCopied and ErrClock.
func (l *Ledger) Claim(ctx context.Context, c Claim, now time.Time) (Lease, error) {
	var id [16]byte
	rand.Read(id[:])
	lease := Lease{ID: hex.EncodeToString(id[:]), GUID: c.GUID, Model: c.Model, Guest: c.Guest, Issued: now.UTC()}
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "claim", GUID: c.GUID, Model: c.Model, Guest: c.Guest, Customer: c.Customer, Subjects: c.Subjects}
		lic, err := t.allowed(c.GUID, c.Model, c.Subjects, now)
		if err == nil {
			err = t.same(c, now)
		}
		if err == nil {
			err = t.slot(lic, c.Guest, now)
		}
		if err != nil {
			return t.log(entry, err)
		}
		lease.Expires = lic.until(c.Expires)
		if err := t.give(lease, c.Subjects); err != nil {
			return err
		}
		entry.Lease = lease.ID
		return t.log(entry, nil)
	})
	if err != nil {
		return Lease{}, fmt.Errorf("claim licence %q: %w", c.GUID, err)
	}
	return lease, nil
}

// maxReason is how much of a caller's reason is logged, in bytes.
const maxReason = 1024

// Refuse logs that a claim was refused, count times, for a reason of the caller's,
// before there is a decision to make here.
func (l *Ledger) Refuse(ctx context.Context, c Claim, reason string, count int, now time.Time) error {
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		return t.log(Entry{At: now, What: "claim", GUID: c.GUID, Model: c.Model, Guest: c.Guest, Customer: c.Customer, Count: times(count), Refused: reason}, nil)
	})
	if err != nil {
		return fmt.Errorf("log a refusal of licence %q: %w", c.GUID, err)
	}
	return nil
}

// times is how an Entry says how often: nothing for once.
func times(n int) int {
	if n == 1 {
		return 0
	}
	return n
}

// day is the number of a day, UTC.
func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// until is the end of a lease that is to end then.
func (lic Licence) until(expires time.Time) time.Time {
	if lic.Type == TimeLimit && lic.NotAfter.Before(expires) {
		return lic.NotAfter
	}
	return expires.UTC()
}

// allowed returns a licence whose terms and subjects allow its use now.
func (t *txn) allowed(guid, model string, subjects []Subject, now time.Time) (Licence, error) {
	lic := Licence{GUID: guid, Model: model}
	var notAfter, archived int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT type, instances, not_after, archived FROM licences WHERE guid = $1 AND model = $2`, guid, model).
		Scan(&lic.Type, &lic.Instances, &notAfter, &archived)
	if errors.Is(err, sql.ErrNoRows) {
		return lic, &refused{ErrNoLicence}
	}
	if err != nil {
		return lic, err
	}
	if archived != 0 {
		return lic, &refused{ErrArchived}
	}
	lic.NotAfter = unstamp(notAfter)
	return lic, t.good(lic, subjects, now)
}

// good refuses a licence that is not good now, or is used with what is not.
func (t *txn) good(lic Licence, subjects []Subject, now time.Time) error {
	if err := t.revoked(append([]Subject{{KindLicence, lic.GUID}}, subjects...)...); err != nil {
		return err
	}
	if lic.Type == TimeLimit && !now.Before(lic.NotAfter) {
		return &refused{fmt.Errorf("%w since %s", ErrExpired, lic.NotAfter.Format(time.RFC3339))}
	}
	return nil
}

// slot makes the guest's earlier leases end, and refuses where there is no room.
func (t *txn) slot(lic Licence, guest string, now time.Time) error {
	if lic.Type == InstanceLimit {
		var others int
		err := t.tx.QueryRowContext(t.ctx, `SELECT COUNT(*) FROM leases
			WHERE guid = $1 AND model = $2 AND ended = 0 AND expires > $3 AND guest <> $4`,
			lic.GUID, lic.Model, stamp(now), guest).Scan(&others)
		if err != nil {
			return err
		}
		if others >= lic.Instances {
			return &refused{fmt.Errorf("%w (%d)", ErrExhausted, lic.Instances)}
		}
	}
	_, err := t.tx.ExecContext(t.ctx, `UPDATE leases SET ended = $1 WHERE guid = $2 AND model = $3 AND guest = $4 AND ended = 0`,
		stamp(now), lic.GUID, lic.Model, guest)
	return err
}

func (t *txn) give(lease Lease, subjects []Subject) error {
	list, err := json.Marshal(subjects)
	if err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO leases (id, guid, model, guest, issued, expires, ended, subjects) VALUES ($1, $2, $3, $4, $5, $6, 0, $7)`,
		lease.ID, lease.GUID, lease.Model, lease.Guest, stamp(lease.Issued), stamp(lease.Expires), string(list)); err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `UPDATE licences SET claims = claims + 1 WHERE guid = $1 AND model = $2`, lease.GUID, lease.Model)
	return err
}

// Renew makes a lease that its guest still holds last for term from now, but no
// longer than most from when it was claimed. Whatever was revoked since is
// refused. A lease that is over is not renewed (ErrNoLease): another may have its
// slot.
func (l *Ledger) Renew(ctx context.Context, id, guest string, term, most time.Duration, now time.Time) (Lease, error) {
	var lease Lease
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "renew", Guest: guest, Lease: id}
		held, lic, subjects, err := t.held(id, guest, now)
		entry.GUID, entry.Model = held.GUID, held.Model
		if err == nil {
			err = t.good(lic, subjects, now)
		}
		if err != nil {
			return t.log(entry, err)
		}
		held.Expires = lic.until(earlier(now.Add(term), held.Issued.Add(most)))
		count := held.renewals + 1
		// One entry a day, of all since the one before: there are as many renewals as
		// there is use.
		log := held.logged != day(now)
		if log {
			entry.Count, held.logged, count = times(count), day(now), 0
		}
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE leases SET expires = $1, renewals = $2, logged = $3 WHERE id = $4`,
			stamp(held.Expires), count, held.logged, id); err != nil {
			return err
		}
		lease = held.Lease
		if !log {
			return nil
		}
		return t.log(entry, nil)
	})
	if err != nil {
		return Lease{}, fmt.Errorf("renew lease %q: %w", id, err)
	}
	return lease, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// heldLease is a lease that is held, and how often it was renewed since that was
// logged, on which day.
type heldLease struct {
	Lease
	renewals int
	logged   int64
}

// held returns a lease that the guest holds now, its licence's terms and what it
// was about. Any other is refused: ErrNoLease.
func (t *txn) held(id, guest string, now time.Time) (lease heldLease, lic Licence, subjects []Subject, err error) {
	var list string
	var issued, expires, notAfter int64
	err = t.tx.QueryRowContext(t.ctx, `SELECT leases.id, leases.guid, leases.model, guest, issued, expires, renewals, logged, subjects, type, instances, not_after
		FROM leases JOIN licences ON licences.guid = leases.guid AND licences.model = leases.model
		WHERE leases.id = $1 AND guest = $2 AND ended = 0 AND expires > $3 AND archived = 0`, id, guest, stamp(now)).
		Scan(&lease.ID, &lease.GUID, &lease.Model, &lease.Guest, &issued, &expires, &lease.renewals, &lease.logged, &list, &lic.Type, &lic.Instances, &notAfter)
	if errors.Is(err, sql.ErrNoRows) {
		return lease, lic, nil, &refused{ErrNoLease}
	}
	if err != nil {
		return lease, lic, nil, err
	}
	lease.Issued, lease.Expires = unstamp(issued), unstamp(expires)
	lic.GUID, lic.Model, lic.NotAfter = lease.GUID, lease.Model, unstamp(notAfter)
	return lease, lic, subjects, json.Unmarshal([]byte(list), &subjects)
}

// End gives a lease back, which frees its slot. One that is over already is
// ErrNoLease.
func (l *Ledger) End(ctx context.Context, id, guest string, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "end", Guest: guest, Lease: id}
		held, _, _, err := t.held(id, guest, now)
		if err != nil {
			return t.log(entry, err)
		}
		entry.GUID, entry.Model, entry.Count = held.GUID, held.Model, held.renewals
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE leases SET ended = $1 WHERE id = $2`, stamp(now), id); err != nil {
			return err
		}
		return t.log(entry, nil)
	})
	if err != nil {
		return fmt.Errorf("end lease %q: %w", id, err)
	}
	return nil
}
