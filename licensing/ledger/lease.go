package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
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
	err := l.batch.doWith(ctx, needs{claim: &c}, func(t *txn) error {
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
	lic, err := t.terms(Key{guid, model})
	if err != nil {
		return lic, err
	}
	if !lic.Archived.IsZero() {
		return lic, &refused{ErrArchived}
	}
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
		if err := t.flush(); err != nil {
			return err
		}
		// What is over ends here: whoever renews it at this moment, for another server,
		// waits for this transaction or is waited for.
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE leases SET ended = expires WHERE guid = $1 AND model = $2 AND ended = 0 AND expires <= $3`,
			lic.GUID, lic.Model, stamp(now)); err != nil {
			return err
		}
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
	t.pending.end(lic.Key(), guest, now)
	return nil
}

func (t *txn) give(lease Lease, subjects []Subject) error {
	list, err := json.Marshal(subjects)
	if err != nil {
		return err
	}
	t.pending.give(lease, string(list))
	return nil
}

// Renew makes a lease that its guest still holds last for term from now, but no
// longer than most from when it was claimed. Whatever was revoked since is
// refused. A lease that is over is not renewed (ErrNoLease): another may have its
// slot.
func (l *Ledger) Renew(ctx context.Context, id, guest string, term, most time.Duration, now time.Time) (Lease, error) {
	var lease Lease
	err := l.renewals.doWith(ctx, needs{lease: id}, func(t *txn) error {
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
		was, count := held, held.renewals+1
		// One entry a day, of all since the one before: there are as many renewals as
		// there is use.
		log := held.logged != day(now)
		if log {
			entry.Count, held.logged, count = times(count), day(now), 0
		}
		held.renewals = count
		t.renewed(was, held)
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
	licence  Licence // its terms
	subjects []Subject
}

// held returns a lease that the guest holds now, its licence's terms and what it
// was about. Any other is refused: ErrNoLease.
func (t *txn) held(id, guest string, now time.Time) (lease heldLease, lic Licence, subjects []Subject, err error) {
	h, err := t.lease(id)
	if err != nil {
		return lease, lic, nil, err
	}
	if h == nil || h.Guest != guest || stamp(h.Expires) <= stamp(now) {
		return lease, lic, nil, &refused{ErrNoLease}
	}
	return *h, h.licence, h.subjects, nil
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
