package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Stored is what Store did.
type Stored string

// What storing does.
const (
	Added     Stored = "stored"
	Replaced  Stored = "replaced"
	Unchanged Stored = "unchanged" // it was there already
)

// Store adds a licence, or puts it into the place of the one with the same GUIDs,
// where replaces, asked with that one, returns nil (else ErrConflict). The same
// document with other certificates takes these alone. Leases that are held stay.
// One that is archived is not replaced (ErrArchived).
func (l *Ledger) Store(ctx context.Context, lic Licence, now time.Time, replaces func(old Licence) error) (Stored, error) {
	if err := lic.check(); err != nil {
		return "", fmt.Errorf("store licence %q: %w", lic.GUID, err)
	}
	var did Stored
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "store", GUID: lic.GUID, Model: lic.Model}
		old, err := scanLicence(t.tx.QueryRowContext(t.ctx, `SELECT `+licenceColumns+` FROM licences WHERE guid = $1 AND model = $2`, lic.GUID, lic.Model))
		if errors.Is(err, sql.ErrNoRows) {
			did = Added
			return t.log(entry, t.insert(lic, now))
		}
		if err != nil {
			return err
		}
		if !old.Archived.IsZero() {
			return t.log(entry, &refused{ErrArchived})
		}
		sameDocument := bytes.Equal(lic.Document, old.Document)
		if sameDocument && bytes.Equal(lic.Primary, old.Primary) && bytes.Equal(lic.Secondary, old.Secondary) {
			did = Unchanged
			return nil
		}
		if !sameDocument {
			if err := replaces(old); err != nil {
				return t.log(entry, &refused{fmt.Errorf("%w: %w", ErrConflict, err)})
			}
		}
		did = Replaced
		return t.log(entry, t.update(lic, now))
	})
	if err != nil {
		return "", fmt.Errorf("store licence %q: %w", lic.GUID, err)
	}
	return did, nil
}

func (t *txn) insert(lic Licence, now time.Time) error {
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO licences (`+licenceColumns+`, claims) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, NULL, 0)`,
		lic.GUID, lic.Model, string(lic.Type), lic.Instances, stamp(lic.NotAfter),
		lic.Document, lic.Primary, lic.Secondary, stamp(now), stamp(now))
	return err
}

func (t *txn) update(lic Licence, now time.Time) error {
	_, err := t.tx.ExecContext(t.ctx, `UPDATE licences SET type = $1, instances = $2, not_after = $3, document = $4,
		primary_cert = $5, secondary_cert = $6, updated = $7, half = NULL WHERE guid = $8 AND model = $9`,
		string(lic.Type), lic.Instances, stamp(lic.NotAfter), lic.Document, lic.Primary, lic.Secondary, stamp(now), lic.GUID, lic.Model)
	return err
}

// check refuses what the schema would, with better words.
func (lic Licence) check() error {
	switch {
	case lic.GUID == "" || lic.Model == "":
		return errors.New("it has no GUIDs")
	case lic.Type != Sale && lic.Type != InstanceLimit && lic.Type != TimeLimit:
		return fmt.Errorf("unknown licence type %q", lic.Type)
	case (lic.Type == InstanceLimit) != (lic.Instances > 0):
		return fmt.Errorf("%d instances do not fit the type %s", lic.Instances, lic.Type)
	case (lic.Type == TimeLimit) == lic.NotAfter.IsZero():
		return fmt.Errorf("an end at %q does not fit the type %s", lic.NotAfter, lic.Type)
	case len(lic.Document) == 0 || len(lic.Primary) == 0 || len(lic.Secondary) == 0:
		return errors.New("its document or a certificate is missing")
	}
	return nil
}

const licenceColumns = `guid, model, type, instances, not_after, document, primary_cert, secondary_cert, created, updated, archived, half`

type scanner interface{ Scan(...any) error }

func scanLicence(row scanner) (Licence, error) {
	var lic Licence
	var notAfter, created, updated, archived int64
	err := row.Scan(&lic.GUID, &lic.Model, &lic.Type, &lic.Instances, &notAfter, &lic.Document, &lic.Primary, &lic.Secondary, &created, &updated, &archived, &lic.Half)
	lic.NotAfter, lic.Created, lic.Updated, lic.Archived = unstamp(notAfter), unstamp(created), unstamp(updated), unstamp(archived)
	return lic, err
}

// Licence returns a licence, or ErrNoLicence.
func (l *Ledger) Licence(ctx context.Context, guid, model string) (Licence, error) {
	lic, err := scanLicence(l.db.QueryRowContext(ctx, `SELECT `+licenceColumns+` FROM licences WHERE guid = $1 AND model = $2`, guid, model))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoLicence
	}
	if err != nil {
		return Licence{}, fmt.Errorf("licence %q: %w", guid, err)
	}
	return lic, nil
}

// Licences returns up to n licences in the order of their GUIDs, those after the
// pair given.
func (l *Ledger) Licences(ctx context.Context, guid, model string, n int) ([]Licence, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT `+licenceColumns+` FROM licences
		WHERE guid > $1 OR (guid = $1 AND model > $2) ORDER BY guid, model LIMIT $3`, guid, model, n)
	if err != nil {
		return nil, fmt.Errorf("list licences: %w", err)
	}
	defer rows.Close()
	var list []Licence
	for rows.Next() {
		lic, err := scanLicence(rows)
		if err != nil {
			return nil, fmt.Errorf("list licences: %w", err)
		}
		list = append(list, lic)
	}
	return list, rows.Err()
}

// Reseal keeps the server's half of a licence, wrapped to another key, until the
// licence is replaced. It is refused with ErrConflict when the document is another by
// now, and with ErrNoLicence when there is none.
func (l *Ledger) Reseal(ctx context.Context, lic Licence, half []byte, now time.Time) error {
	err := l.batch.do(ctx, func(t *txn) error {
		if err := t.clock(now); err != nil {
			return err
		}
		entry := Entry{At: now, What: "reseal", GUID: lic.GUID, Model: lic.Model}
		old, err := scanLicence(t.tx.QueryRowContext(t.ctx, `SELECT `+licenceColumns+` FROM licences WHERE guid = $1 AND model = $2`, lic.GUID, lic.Model))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return t.log(entry, &refused{ErrNoLicence})
		case err != nil:
			return err
		case !bytes.Equal(old.Document, lic.Document):
			return t.log(entry, &refused{ErrConflict})
		}
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE licences SET half = $1 WHERE guid = $2 AND model = $3`, half, lic.GUID, lic.Model); err != nil {
			return err
		}
		return t.log(entry, nil)
	})
	if err != nil {
		return fmt.Errorf("reseal licence %q: %w", lic.GUID, err)
	}
	return nil
}
