package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// A decision that PostgreSQL ends, because it and another wait for each other, is made
// again.
func TestDeadlock(t *testing.T) {
	s := start(t)
	l := s.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lic, lease := sold(t, l)
	other := s.transaction(ctx, t)
	// The claim writes to its guest's row, and then waits for that of its licence.
	if _, err := other.Exec(ctx, `SET LOCAL deadlock_timeout = '1min'`); err != nil { // it is not the one to end
		t.Fatal(err)
	}
	if _, err := other.Exec(ctx, `SELECT 1 FROM licences WHERE guid = $1 FOR UPDATE`, lic.GUID); err != nil {
		t.Fatal(err)
	}
	claimed := make(chan error, 1)
	go func() {
		_, err := l.Claim(ctx, ledger.Claim{GUID: lic.GUID, Model: lic.Model, Guest: lease.Guest, Expires: time.Now().Add(time.Hour)}, time.Now())
		claimed <- err
	}()
	s.waiting(ctx, t)
	if _, err := other.Exec(ctx, `UPDATE guests SET seen = 1 WHERE guest = $1`, lease.Guest); err != nil {
		t.Fatal("the other was to stay: ", err)
	}
	if err := other.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-claimed; err != nil {
		t.Error(err)
	}
}

// A renewal that reads a lease while another server ends it is of no lease.
func TestRenewalOfWhatEnds(t *testing.T) {
	s := start(t)
	l := s.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, lease := sold(t, l)
	other := s.transaction(ctx, t)
	if _, err := other.Exec(ctx, `UPDATE leases SET ended = 1`); err != nil {
		t.Fatal(err)
	}
	renewed := make(chan error, 1)
	go func() {
		_, err := l.Renew(ctx, lease.ID, lease.Guest, time.Hour, 24*time.Hour, time.Now())
		renewed <- err
	}()
	s.waiting(ctx, t)
	if err := other.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-renewed; !errors.Is(err, ledger.ErrNoLease) {
		t.Errorf("%v, want %v", err, ledger.ErrNoLease)
	}
}

// connect is another connection to the database.
func (s *server) connect(ctx context.Context, t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, s.URL("test0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// transaction is another server's.
func (s *server) transaction(ctx context.Context, t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := s.connect(ctx, t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// waiting returns when a transaction waits for another.
func (s *server) waiting(ctx context.Context, t *testing.T) {
	t.Helper()
	conn := s.connect(ctx, t)
	for waiting := false; !waiting; {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}
