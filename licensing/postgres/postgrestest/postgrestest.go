// Package postgrestest runs a real PostgreSQL for tests.
package postgrestest

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Server is a PostgreSQL on a socket in a directory of its own.
type Server struct {
	dir string
}

// program finds one of PostgreSQL's. Debian keeps them out of PATH.
func program(t testing.TB, name string) string {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	need.Absent(t, "postgres", name+" is not installed")
	return ""
}

// Start starts a server with PostgreSQL's own settings, until the test ends. It
// refuses to run as root, so nobody runs it then. The test needs PostgreSQL.
func Start(t testing.TB) *Server {
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
	if err := (run.Cmd{
		Path: initdb, Args: []string{"-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"},
		Dir: dir, SysProcAttr: attributes,
	}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	server, err := run.Cmd{
		Path: postgres, Args: []string{"-D", data, "-k", dir, "-c", "listen_addresses="},
		Dir: dir, Stdout: log, Stderr: log, SysProcAttr: attributes,
	}.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Signal(syscall.SIGQUIT) // ends without waiting for clients
		server.Wait()
	})
	s := &Server{dir}
	s.wait(t)
	return s
}

// Dir is the directory of its socket.
func (s *Server) Dir() string { return s.dir }

// URL is the address of a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=test", database, s.dir)
}

func (s *Server) wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
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

// Create makes an empty database.
func (s *Server) Create(t testing.TB, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{database}.Sanitize()); err != nil {
		t.Fatal(err)
	}
}
