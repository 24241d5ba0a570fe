// Package postgres keeps a licence server's ledger in PostgreSQL, for several
// servers behind a balancer.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// lock makes servers that start together bring the schema up to date one after
// another. It is held until the transaction ends. The number is this program's own,
// "ovsa" in ASCII.
const lock = `SELECT pg_advisory_xact_lock(1870033761)`

// serial has transactions that give leases follow each other, on whatever server. It
// is held until the transaction ends.
const serial = `SELECT pg_advisory_xact_lock(1870033762)`

// maxConns is how many connections one server has at most.
const maxConns = 16

// Open opens the ledger in the database at url, postgres://USER@HOST/NAME, over TLS
// with the server's certificate verified, unless its sslmode says otherwise. A
// password has to be in a pass file; anywhere else it is ErrPassword. An sslmode that
// may go without TLS unasked is ErrPlain.
func Open(ctx context.Context, url string) (*ledger.Ledger, error) {
	l, where, err := open(url)
	if err != nil {
		return nil, err
	}
	if err := l.Migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", where, err), l.Close())
	}
	return l, nil
}

const (
	firstPause = 250 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Await is Open for a server that may start before its database does: when nobody
// answers there, the ledger is returned all the same, everything in it fails, and it
// is opened once somebody does, or ctx ends. waiting is told why, each time that it
// fails, and nil once it is open. What only people can mend is an error at once.
func Await(ctx context.Context, url string, waiting func(error)) (*ledger.Ledger, error) {
	l, where, err := open(url)
	if err != nil {
		return nil, err
	}
	err = l.Migrate(ctx)
	if err == nil {
		return l, nil
	}
	if !away(err) {
		return nil, errors.Join(fmt.Errorf("%s: %w", where, err), l.Close())
	}
	go func() {
		for pause := firstPause; err != nil; pause = min(2*pause, maxPause) {
			waiting(fmt.Errorf("%s: %w", where, err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			err = l.Migrate(ctx)
		}
		waiting(nil)
	}()
	return l, nil
}

// away says that nobody answers at a database's address, or not yet: what PostgreSQL
// itself refuses, but to say that it starts or ends, is something else (class 57 of
// its error codes).
func away(err error) bool {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return strings.HasPrefix(refusal.Code, "57P")
	}
	var connecting *pgconn.ConnectError
	return errors.As(err, &connecting)
}

// another says that transactions were in each other's way: serialization_failure and
// deadlock_detected (class 40 of PostgreSQL's error codes).
func another(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && (refusal.Code == "40001" || refusal.Code == "40P01")
}

func open(url string) (l *ledger.Ledger, where string, err error) {
	config, err := parse(url)
	if err != nil {
		return nil, "", err
	}
	db := stdlib.OpenDB(*config)
	// A new connection is a new process of PostgreSQL's, so those there are stay,
	// and a few suffice: decisions come together.
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	l = ledger.New(db, ledger.Dialect{Name: "postgres", Blob: "BYTEA", Lock: lock, Serial: serial, ForUpdate: " FOR UPDATE", Another: another})
	return l, config.Host + "/" + config.Database, nil
}
