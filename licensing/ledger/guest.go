package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// HostBoot is a host by the name of its attestation key, and how often its TPM was
// reset when it vouched for a guest.
type HostBoot struct {
	ID     string // as its certificate names it
	AK     string // "" when there is none
	Resets uint32
	Certs  []byte // by which it was believed, as the caller encodes them
}

// Clock is how far a guest's TPM has come, as its quotes say.
type Clock struct {
	Resets, Restarts uint32
	Millis           uint64
}

// same refuses a guest that is not the one of its last lease, but a copy of its
// TPM, and one whose host has booted since it vouched for it. A refusal changes
// nothing of what is known of the guest, or whoever has a copy could lock it out.
func (t *txn) same(c Claim, now time.Time) error {
	if err := t.hostGoesOn(c.Host, now); err != nil {
		return err
	}
	resets, restarts, millis := int64(c.Clock.Resets), int64(c.Clock.Restarts), int64(c.Clock.Millis)
	// While the TPM is not reset its life is one and its clock goes on; by a reset it
	// gets another life. Its clock may then be behind: libtpms keeps it at an orderly
	// shutdown alone. What was put back or moved has another lineage.
	done, err := t.tx.ExecContext(t.ctx, `INSERT INTO guests (guest, resets, restarts, millis, life, lineage, vm, host, seen, refused, refused_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0)
		ON CONFLICT (guest) DO UPDATE SET resets = excluded.resets, restarts = excluded.restarts, millis = excluded.millis,
			life = excluded.life, lineage = excluded.lineage, vm = excluded.vm, host = excluded.host, seen = excluded.seen
		WHERE (guests.lineage = '' OR guests.lineage = excluded.lineage)
		AND (guests.resets < excluded.resets AND (guests.life = '' OR guests.life <> excluded.life)
			OR guests.resets = excluded.resets AND (guests.life = '' OR guests.life = excluded.life)
				AND guests.restarts <= excluded.restarts AND guests.millis <= excluded.millis)`,
		c.Guest, resets, restarts, millis, c.Life, c.Lineage, c.VM, c.Host.ID, stamp(now))
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return t.another(c, now)
}

// another says why a guest is not the one that is known, and counts it.
func (t *txn) another(c Claim, now time.Time) error {
	var last Clock
	var life, lineage string
	err := t.tx.QueryRowContext(t.ctx, `SELECT resets, restarts, millis, life, lineage FROM guests WHERE guest = $1`, c.Guest).
		Scan(&last.Resets, &last.Restarts, &last.Millis, &life, &lineage)
	if err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(t.ctx, `UPDATE guests SET refused = refused + 1, refused_at = $1 WHERE guest = $2`, stamp(now), c.Guest); err != nil {
		return err
	}
	switch {
	case lineage != "" && lineage != c.Lineage:
		return &refused{fmt.Errorf("%w: its host found another state than it left: copied, put back or moved", ErrCopied)}
	case life != "" && (last.Resets == c.Clock.Resets) != (life == c.Life):
		return &refused{fmt.Errorf("%w: after %d resets there are two of it", ErrCopied, c.Clock.Resets)}
	}
	return &refused{fmt.Errorf("%w: from %v to %v", ErrRolledBack, last, c.Clock)}
}

// hostGoesOn refuses a host that is behind the boot which it was seen in.
func (t *txn) hostGoesOn(h HostBoot, now time.Time) error {
	if h.AK == "" {
		return nil
	}
	done, err := t.tx.ExecContext(t.ctx, `INSERT INTO hosts (ak, resets, seen, certs) VALUES ($1, $2, $3, $4)
		ON CONFLICT (ak) DO UPDATE SET resets = excluded.resets, seen = excluded.seen, certs = excluded.certs WHERE hosts.resets <= excluded.resets`,
		h.AK, int64(h.Resets), stamp(now), h.Certs)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return &refused{fmt.Errorf("what the host says is of an earlier boot: %w", ErrRolledBack)}
}

// Holding is what a lease was given for.
type Holding struct {
	Key
	AK    string // of the guest's host; "" when it is not known
	Certs []byte // of that host, see HostBoot; nil when they are not known
}

// Holding returns what a lease was given for, held or not. Any other is ErrNoLease.
func (l *Ledger) Holding(ctx context.Context, lease string) (Holding, error) {
	var h Holding
	var list string
	err := l.db.QueryRowContext(ctx, `SELECT guid, model, subjects FROM leases WHERE id = $1`, lease).Scan(&h.GUID, &h.Model, &list)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoLease
	}
	var subjects []Subject
	if err == nil {
		err = json.Unmarshal([]byte(list), &subjects)
	}
	for _, s := range subjects {
		if s.Kind == KindAK {
			h.AK = s.ID
		}
	}
	if err == nil && h.AK != "" {
		err = l.db.QueryRowContext(ctx, `SELECT certs FROM hosts WHERE ak = $1`, h.AK).Scan(&h.Certs)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
	}
	if err != nil {
		return Holding{}, fmt.Errorf("look at lease %q: %w", lease, err)
	}
	return h, nil
}

// Guest is what is known of a guest since its last lease.
type Guest struct {
	ID      string // hex of its endorsement key's TPM name
	VM      string // a UUID; "" when it is not known
	Host    string // the host's id; "" when it is not known
	Clock   Clock
	Seen    time.Time // its last good proof; zero when it is not known
	Leases  int       // that it holds now
	Refused int       // proofs by copies of its TPM
	Last    time.Time // the last of these
	Revoked bool
}

// Guests lists the guests whose IDs begin with prefix, in their order.
func (l *Ledger) Guests(ctx context.Context, prefix string, now time.Time) ([]Guest, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT guest, vm, host, resets, restarts, millis, seen, refused, refused_at,
			(SELECT COUNT(*) FROM leases WHERE leases.guest = guests.guest AND ended = 0 AND expires > $1),
			(SELECT COUNT(*) FROM revocations WHERE kind = $2 AND subject = guests.guest)
		FROM guests WHERE substr(guest, 1, $3) = $4 ORDER BY guest`, stamp(now), string(KindGuest), len(prefix), prefix)
	if err != nil {
		return nil, fmt.Errorf("list guests: %w", err)
	}
	defer rows.Close()
	var list []Guest
	for rows.Next() {
		var g Guest
		var seen, last int64
		var revoked int
		if err := rows.Scan(&g.ID, &g.VM, &g.Host, &g.Clock.Resets, &g.Clock.Restarts, &g.Clock.Millis, &seen, &g.Refused, &last, &g.Leases, &revoked); err != nil {
			return nil, fmt.Errorf("list guests: %w", err)
		}
		g.Seen, g.Last, g.Revoked = unstamp(seen), unstamp(last), revoked > 0
		list = append(list, g)
	}
	return list, rows.Err()
}

// ResetGuest forgets what is known of a guest, and ends its leases: the next proof
// by its TPM, or by any copy of it, is its first again. For a guest that was moved
// or whose state was put back. One that is not known is ErrNoGuest.
func (l *Ledger) ResetGuest(ctx context.Context, guest string, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "reset", Guest: guest}
		var known string
		err := t.tx.QueryRowContext(t.ctx, `SELECT guest FROM guests WHERE guest = $1`, guest).Scan(&known)
		if errors.Is(err, sql.ErrNoRows) {
			return t.log(entry, &refused{ErrNoGuest})
		}
		if err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE leases SET ended = $1 WHERE guest = $2 AND ended = 0`, stamp(now), guest); err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM guests WHERE guest = $1`, guest); err != nil {
			return err
		}
		return t.log(entry, nil)
	})
	if err != nil {
		return fmt.Errorf("reset guest %q: %w", guest, err)
	}
	return nil
}
