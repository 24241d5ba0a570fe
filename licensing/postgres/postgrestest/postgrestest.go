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
	dir  string
	port string // of 127.0.0.1; "" without one
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
func Start(t testing.TB) *Server { return start(t, nil) }

// StartTLS is Start of a server that listens on a TCP port of 127.0.0.1, too, with a
// certificate for that address. ca is the file with the authority.
func StartTLS(t testing.TB) (s *Server, ca string) {
	t.Helper()
	certs := newCerts(t)
	return start(t, certs), certs.ca
}

func start(t testing.TB, certs *certs) *Server {
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
	args := []string{"-D", data, "-k", dir, "-c", "listen_addresses="}
	s := &Server{dir: dir}
	if certs != nil {
		s.port = freePort(t)
		certs.install(t, data, attributes.Credential)
		args = []string{"-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + s.port,
			"-c", "ssl=on", "-c", "ssl_cert_file=server.crt", "-c", "ssl_key_file=server.key"}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	server, err := run.Cmd{
		Path: postgres, Args: args,
		Dir: dir, Stdout: log, Stderr: log, SysProcAttr: attributes,
	}.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Signal(syscall.SIGQUIT) // ends without waiting for clients
		server.Wait()
	})
	s.wait(t)
	return s
}

// Dir is the directory of its socket.
func (s *Server) Dir() string { return s.dir }

// URL is the address of a database.
func (s *Server) URL(database string) string {
	if s.port != "" {
		return fmt.Sprintf("postgres:///%s?host=%s&port=%s&user=test", database, s.dir, s.port)
	}
	return fmt.Sprintf("postgres:///%s?host=%s&user=test", database, s.dir)
}

// TCP is the address of a database by the server's TCP port.
func (s *Server) TCP(database string) string {
	return fmt.Sprintf("postgres://test@127.0.0.1:%s/%s", s.port, database)
}

// Program finds one of PostgreSQL's programs; without it the test is skipped.
func Program(t testing.TB, name string) string {
	t.Helper()
	return program(t, name)
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
