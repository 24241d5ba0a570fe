package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// migrations bring a schema from each version to the next. They are never
// edited, only followed by more. SERIAL and BLOB stand for the dialect's types.
var migrations = []string{
	`CREATE TABLE licences (
		guid TEXT NOT NULL, model TEXT NOT NULL, type TEXT NOT NULL,
		instances BIGINT NOT NULL, not_after BIGINT NOT NULL,
		document BLOB NOT NULL, primary_cert BLOB NOT NULL, secondary_cert BLOB NOT NULL,
		created BIGINT NOT NULL, updated BIGINT NOT NULL, claims BIGINT NOT NULL,
		PRIMARY KEY (guid, model),
		CHECK (type IN ('Sale', 'InstanceLimit', 'TimeLimit')),
		CHECK (type <> 'InstanceLimit' OR instances > 0),
		CHECK (type <> 'TimeLimit' OR not_after > 0));
	CREATE TABLE leases (
		id TEXT PRIMARY KEY, guid TEXT NOT NULL, model TEXT NOT NULL, guest TEXT NOT NULL,
		issued BIGINT NOT NULL, expires BIGINT NOT NULL, ended BIGINT NOT NULL, subjects TEXT NOT NULL,
		FOREIGN KEY (guid, model) REFERENCES licences (guid, model));
	CREATE INDEX leases_held ON leases (guid, model, expires) WHERE ended = 0;
	CREATE TABLE guests (
		guest TEXT PRIMARY KEY, resets BIGINT NOT NULL, restarts BIGINT NOT NULL, millis BIGINT NOT NULL);
	CREATE TABLE revocations (
		kind TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL, at BIGINT NOT NULL,
		PRIMARY KEY (kind, subject));
	CREATE TABLE challenges (id TEXT PRIMARY KEY, data BLOB NOT NULL, expires BIGINT NOT NULL);
	CREATE INDEX challenges_expire ON challenges (expires);
	CREATE TABLE audit (seq BIGINT PRIMARY KEY, entry BLOB NOT NULL, hash BLOB NOT NULL);
	CREATE TABLE head (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, hash BLOB NOT NULL, seen BIGINT NOT NULL, CHECK (id = 1))`,
	// A guest's own leases, of a licence that many guests hold.
	`CREATE INDEX leases_guest ON leases (guest, guid, model) WHERE ended = 0`,
	// Licences that are put away: see Archive.
	`ALTER TABLE licences ADD COLUMN archived BIGINT NOT NULL DEFAULT 0`,
	// What tells a guest from copies of its TPM, and hosts in a table of their own.
	`ALTER TABLE guests ADD COLUMN life TEXT NOT NULL DEFAULT '';
	ALTER TABLE guests ADD COLUMN lineage TEXT NOT NULL DEFAULT '';
	ALTER TABLE guests ADD COLUMN vm TEXT NOT NULL DEFAULT '';
	ALTER TABLE guests ADD COLUMN host TEXT NOT NULL DEFAULT '';
	ALTER TABLE guests ADD COLUMN seen BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE guests ADD COLUMN refused BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE guests ADD COLUMN refused_at BIGINT NOT NULL DEFAULT 0;
	CREATE TABLE hosts (ak TEXT PRIMARY KEY, resets BIGINT NOT NULL, seen BIGINT NOT NULL, certs BLOB);
	INSERT INTO hosts SELECT substr(guest, 6), resets, 0, NULL FROM guests WHERE guest LIKE 'host %';
	DELETE FROM guests WHERE guest LIKE 'host %';
	ALTER TABLE licences ADD COLUMN half BLOB;
	ALTER TABLE leases ADD COLUMN renewals BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE leases ADD COLUMN logged BIGINT NOT NULL DEFAULT 0;
	CREATE TABLE audit_base (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, hash BLOB NOT NULL, CHECK (id = 1))`,
	// Why requests were refused, what guests in a TCB log, and licences that end.
	`CREATE TABLE refusals (
		request TEXT PRIMARY KEY, guid TEXT NOT NULL, model TEXT NOT NULL, at BIGINT NOT NULL, data BLOB NOT NULL);
	CREATE INDEX refusals_latest ON refusals (guid, model, at);
	CREATE TABLE event_logs (tcb TEXT PRIMARY KEY, at BIGINT NOT NULL, data BLOB NOT NULL);
	CREATE INDEX licences_end ON licences (not_after) WHERE not_after > 0`,
}

// migrate brings the schema up to date, in one transaction. One that is so takes no
// right to change it.
func (l *Ledger) migrate(ctx context.Context) error {
	var now int
	if err := l.db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`).Scan(&now); err == nil && now == len(migrations) {
		return nil
	}
	return l.once(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)`); err != nil {
			return err
		}
		var have int
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`).Scan(&have); err != nil {
			return err
		}
		if have > len(migrations) {
			return fmt.Errorf("its schema has version %d, and this program knows %d: use a newer one", have, len(migrations))
		}
		for i := have; i < len(migrations); i++ {
			for statement := range strings.SplitSeq(migrations[i], ";") {
				statement = strings.ReplaceAll(statement, " BLOB", " "+l.dialect.Blob)
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("schema version %d: %w", i+1, err)
				}
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO schema_version VALUES ($1)`, i+1); err != nil {
				return err
			}
		}
		if have == 0 {
			first := genesis()
			_, err := tx.ExecContext(ctx, `INSERT INTO head VALUES (1, 0, $1, 0)`, first[:])
			return err
		}
		return nil
	})
}

// once runs f in a transaction of its own.
func (l *Ledger) once(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if l.dialect.Lock != "" {
		if _, err := tx.ExecContext(ctx, l.dialect.Lock); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
