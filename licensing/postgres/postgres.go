// Package postgres keeps a licence server's ledger in PostgreSQL, for several
// servers behind a balancer.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// lock makes servers that start together bring the schema up to date one after
// another. It is held until the transaction ends. The number is this program's own,
// "ovsa" in ASCII.
const lock = `SELECT pg_advisory_xact_lock(1870033761)`

// maxConns is how many connections one server has at most.
const maxConns = 16

// Open opens the ledger in the database at url, postgres://USER@HOST/NAME. A
// password is better in PGPASSFILE than in the URL.
func Open(ctx context.Context, url string) (*ledger.Ledger, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("open database: the address is not a PostgreSQL URL") // which may have a password
	}
	db := stdlib.OpenDB(*config)
	// A new connection is a new process of PostgreSQL's, so those there are stay,
	// and a few suffice: decisions take turns anyhow.
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	l, err := ledger.Open(ctx, db, ledger.Dialect{Name: "postgres", Blob: "BYTEA", Lock: lock, ForUpdate: " FOR UPDATE"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s/%s: %w", config.Host, config.Database, err), db.Close())
	}
	return l, nil
}
