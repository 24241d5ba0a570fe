package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
)

// A server may start before its database does: nothing is decided until that is
// there, and then everything is.
func TestAwait(t *testing.T) {
	s := postgrestest.Start(t)
	s.Create(t, "later")
	elsewhere, err := os.MkdirTemp("", "pg") //nolint:usetesting // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(elsewhere)
	url := strings.Replace(s.URL("later"), s.Dir(), elsewhere, 1)

	var waited atomic.Int32
	there := make(chan struct{})
	l, err := postgres.Await(t.Context(), url, func(err error) {
		if err == nil {
			close(there)
			return
		}
		waited.Add(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(t.Context()); err == nil {
		t.Error("the database that is away answers")
	}
	if _, err := l.Renew(t.Context(), strings.Repeat("0a", 16), "g", time.Minute, time.Hour, time.Now()); err == nil {
		t.Error("a decision without a database")
	}
	if err := os.Symlink(filepath.Join(s.Dir(), ".s.PGSQL.5432"), filepath.Join(elsewhere, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-there:
	case <-time.After(30 * time.Second):
		t.Fatal("the database that came is not noticed")
	}
	if err := l.Check(t.Context()); err != nil || waited.Load() == 0 {
		t.Errorf("%v, waited %d times", err, waited.Load())
	}
}

// What people have to mend is said at once.
func TestAwaitNothing(t *testing.T) {
	s := postgrestest.Start(t)
	for name, url := range map[string]string{
		"no such database": s.URL("none"),
		"no such user":     strings.Replace(s.URL("postgres"), "user=test", "user=nobody", 1),
		"no URL":           "postgres://%",
	} {
		l, err := postgres.Await(t.Context(), url, func(err error) { t.Errorf("%s: waits for it: %v", name, err) })
		if err == nil {
			l.Close()
			t.Errorf("%s: no error", name)
		}
		if errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
