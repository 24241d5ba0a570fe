package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Key names a licence.
type Key struct{ GUID, Model string }

// Key is the licence's.
func (lic Licence) Key() Key { return Key{lic.GUID, lic.Model} }

// Archive puts licences away: nothing is given for them any more, and leases of
// them end at their next renewal. Those that are away already stay so. When one is
// not there (ErrNoLicence), nothing changes.
func (l *Ledger) Archive(ctx context.Context, keys []Key, now time.Time) error {
	if err := l.setArchived(ctx, "archive", keys, now, now); err != nil {
		return fmt.Errorf("archive licences: %w", err)
	}
	return nil
}

// Restore takes archived licences back.
func (l *Ledger) Restore(ctx context.Context, keys []Key, now time.Time) error {
	if err := l.setArchived(ctx, "restore", keys, time.Time{}, now); err != nil {
		return fmt.Errorf("restore licences: %w", err)
	}
	return nil
}

func (l *Ledger) setArchived(ctx context.Context, what string, keys []Key, to, now time.Time) error {
	return l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		var change []Key
		for _, k := range keys {
			archived, err := t.archived(k)
			if err != nil {
				return t.log(Entry{At: now, What: what, GUID: k.GUID, Model: k.Model}, err)
			}
			if archived == to.IsZero() {
				change = append(change, k)
			}
		}
		for _, k := range change {
			_, err := t.tx.ExecContext(t.ctx, `UPDATE licences SET archived = $1 WHERE guid = $2 AND model = $3`, stamp(to), k.GUID, k.Model)
			if err := t.log(Entry{At: now, What: what, GUID: k.GUID, Model: k.Model}, err); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *txn) archived(k Key) (bool, error) {
	var archived int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT archived FROM licences WHERE guid = $1 AND model = $2`, k.GUID, k.Model).Scan(&archived)
	if errors.Is(err, sql.ErrNoRows) {
		return false, &refused{ErrNoLicence}
	}
	return archived != 0, err
}

// Remove forgets archived licences and what is known of their leases; the audit log
// stays. When one is not archived, or a guest still holds a lease (ErrInUse), or one
// is not there (ErrNoLicence), nothing changes.
func (l *Ledger) Remove(ctx context.Context, keys []Key, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		for _, k := range keys {
			if err := t.removable(k, now); err != nil {
				return t.log(Entry{At: now, What: "remove", GUID: k.GUID, Model: k.Model}, err)
			}
		}
		for _, k := range keys {
			if err := t.log(Entry{At: now, What: "remove", GUID: k.GUID, Model: k.Model}, t.remove(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove licences: %w", err)
	}
	return nil
}

func (t *txn) removable(k Key, now time.Time) error {
	archived, err := t.archived(k)
	if err != nil {
		return err
	}
	if !archived {
		return &refused{fmt.Errorf("%w: %s is not archived", ErrInUse, k.GUID)}
	}
	var held int
	if err := t.tx.QueryRowContext(t.ctx, `SELECT COUNT(*) FROM leases WHERE guid = $1 AND model = $2 AND ended = 0 AND expires > $3`,
		k.GUID, k.Model, stamp(now)).Scan(&held); err != nil {
		return err
	}
	if held > 0 {
		return &refused{fmt.Errorf("%w: guests still hold %d leases of %s", ErrInUse, held, k.GUID)}
	}
	return nil
}

func (t *txn) remove(k Key) error {
	for _, table := range []string{"leases", "licences"} {
		if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM `+table+` WHERE guid = $1 AND model = $2`, k.GUID, k.Model); err != nil {
			return err
		}
	}
	return nil
}
