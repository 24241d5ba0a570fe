// Package remotetest runs a real OpenSSH server on loopback for tests.
package remotetest

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Server is a real OpenSSH server on loopback, run by the test's own user.
type Server struct {
	Addr     netip.AddrPort
	HostKeys []string // authorized_keys format: ed25519, ecdsa, rsa
	User     string   // who may log in
	dir      string
}

// New makes a server's keys and configuration, and does not start it.
func New(t *testing.T, authorizedKey string) *Server {
	t.Helper()
	need.Programs(t, "sshd")
	keygen := need.Program(t, "ssh-keygen")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's own, on every machine that has run it
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := &Server{User: me.Username, dir: dir, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))}
	config := []string{
		"ListenAddress " + s.Addr.String(),
		"AuthorizedKeysFile " + filepath.Join(dir, "authorized_keys"),
		"PidFile none", "StrictModes no", "PermitRootLogin prohibit-password",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no", "UseDNS no",
		"Subsystem sftp internal-sftp",
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		path := filepath.Join(dir, "host_"+kind)
		args := []string{"-q", "-t", kind, "-N", "", "-f", path, "-C", "host"}
		if kind == "rsa" {
			args = append(args, "-b", "2048") // made faster than the default
		}
		if err := (run.Cmd{Path: keygen, Args: args}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		s.HostKeys = append(s.HostKeys, strings.TrimSpace(string(public)))
		config = append(config, "HostKey "+path)
	}
	write(t, filepath.Join(dir, "authorized_keys"), authorizedKey+"\n", 0o600)
	write(t, filepath.Join(dir, "sshd_config"), strings.Join(config, "\n")+"\n", 0o600)
	return s
}

// Start starts the server and ends it with the test.
func (s *Server) Start(t *testing.T) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := run.Cmd{
		Path: "/usr/sbin/sshd", Args: []string{"-D", "-e", "-f", filepath.Join(s.dir, "sshd_config")},
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	}.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); p.Wait() })
	return s
}

// Target is how to connect to the server.
func (s *Server) Target() remote.Target {
	return remote.Target{Addr: s.Addr, User: s.User, HostKeys: s.HostKeys}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
