package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/ledger/ledgertest"
	"github.com/ovsactl/ovsactl/licensing/postgres"
)

// server is a real PostgreSQL on a socket in a directory of the test's.
type server struct {
	dir string

	mu        sync.Mutex
	databases map[*testing.T]string
}

// program finds one of PostgreSQL's. Debian keeps them out of PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("OVSA_REQUIRE"), ","), "postgres") {
		t.Fatalf("%s is required and not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// start starts a server. It refuses to run as root, so nobody runs it then.
func start(t *testing.T) *server {
	t.Helper()
	initdb, postgres := program(t, "initdb"), program(t, "postgres")
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(dir, "data")
	make := exec.Command(initdb, "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	make.SysProcAttr, make.Dir = attributes, dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	run := exec.Command(postgres, "-D", data, "-k", dir, "-c", "listen_addresses=")
	run.SysProcAttr, run.Dir = attributes, dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Process.Signal(syscall.SIGQUIT) // ends without waiting for clients
		run.Wait()
	})
	s := &server{dir: dir, databases: map[*testing.T]string{}}
	s.wait(t)
	return s
}

func (s *server) url(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=test", database, s.dir)
}

func (s *server) wait(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			conn.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("PostgreSQL does not answer: %v\n%s", err, log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// open gives each test a database of its own.
func (s *server) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.databases[t] == "" {
		name := fmt.Sprintf("test%d", len(s.databases))
		conn, err := pgx.Connect(t.Context(), s.url("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
			t.Fatal(err)
		}
		s.databases[t] = name
	}
	l, err := postgres.Open(t.Context(), s.url(s.databases[t]))
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
			l, err := postgres.Open(t.Context(), s.url("test0"))
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
	for _, url := range []string{"postgres://ovsa:hunter2@host:notaport/db", "postgres://ovsa:hunter2@127.0.0.1:1/db?connect_timeout=1"} {
		_, err := postgres.Open(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v", err)
		}
	}
}
