package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/ledger/ledgertest"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
)

// server is a PostgreSQL with a database for each test.
type server struct {
	*postgrestest.Server

	mu        sync.Mutex
	databases map[*testing.T]string
}

func start(t *testing.T) *server {
	t.Helper()
	return &server{Server: postgrestest.Start(t), databases: map[*testing.T]string{}}
}

// open gives each test a database of its own.
func (s *server) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.databases[t] == "" {
		name := fmt.Sprintf("test%d", len(s.databases))
		s.Create(t, name)
		s.databases[t] = name
	}
	l, err := postgres.Open(t.Context(), s.URL(s.databases[t]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLedger(t *testing.T) { ledgertest.Run(t, start(t).open) }

// Several servers that start together make one schema.
func TestSchemaIsMadeOnce(t *testing.T) {
	s := start(t)
	s.open(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			l, err := postgres.Open(t.Context(), s.URL("test0"))
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
		})
	}
	all.Wait()
}

func TestAddressIsNotRepeated(t *testing.T) {
	for _, url := range []string{"postgres://ovsa:hunter2@host:notaport/db", "postgres://ovsa:hunter2@127.0.0.1:1/db?connect_timeout=1", "host=x password=hunter2"} {
		_, err := postgres.Open(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v", err)
		}
	}
}
