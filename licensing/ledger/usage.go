package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Usage is how much a licence is used.
type Usage struct {
	Held   int   // leases now
	Claims int64 // leases ever given; renewals do not count
}

// Usage counts the leases of a licence.
func (l *Ledger) Usage(ctx context.Context, guid, model string, now time.Time) (Usage, error) {
	var u Usage
	err := l.db.QueryRowContext(ctx, `SELECT claims, (SELECT COUNT(*) FROM leases
		WHERE guid = $1 AND model = $2 AND ended = 0 AND expires > $3) FROM licences WHERE guid = $1 AND model = $2`,
		guid, model, stamp(now)).Scan(&u.Claims, &u.Held)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoLicence
	}
	if err != nil {
		return Usage{}, fmt.Errorf("usage of licence %q: %w", guid, err)
	}
	return u, nil
}

// InUse is a licence of which leases are held.
type InUse struct {
	Key
	Type  Type
	Seats int // of an InstanceLimit; 0 for no limit
	Held  int
}

// InUse returns the licences of which leases are held now, those of most leases first,
// and of these at most n.
func (l *Ledger) InUse(ctx context.Context, n int, now time.Time) ([]InUse, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT leases.guid, leases.model, type, instances, COUNT(*) AS held
		FROM leases JOIN licences ON licences.guid = leases.guid AND licences.model = leases.model
		WHERE ended = 0 AND expires > $1
		GROUP BY leases.guid, leases.model, type, instances ORDER BY held DESC, leases.guid, leases.model LIMIT $2`, stamp(now), n)
	if err != nil {
		return nil, fmt.Errorf("licences in use: %w", err)
	}
	defer rows.Close()
	var all []InUse
	for rows.Next() {
		var u InUse
		if err := rows.Scan(&u.GUID, &u.Model, &u.Type, &u.Seats, &u.Held); err != nil {
			return nil, fmt.Errorf("licences in use: %w", err)
		}
		all = append(all, u)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("licences in use: %w", err)
	}
	return all, nil
}

// Ending counts the licences that end after from and not after until. Those that are
// archived do not count.
func (l *Ledger) Ending(ctx context.Context, from, until time.Time) (n int, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM licences WHERE not_after > 0 AND not_after > $1 AND not_after <= $2 AND archived = 0`,
		stamp(from), stamp(until)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("licences that end: %w", err)
	}
	return n, nil
}
