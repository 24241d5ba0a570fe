package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/run"
)

// sshd is a real OpenSSH server on loopback, run by the test's own user.
type sshd struct {
	addr     netip.AddrPort
	hostKeys []string
	user     string
	dir      string
	process  *run.Process
}

// need skips where a program is absent, unless OVSA_REQUIRE names it.
func need(t *testing.T, name string, places ...string) string {
	t.Helper()
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	if slices.Contains(strings.Split(os.Getenv("OVSA_REQUIRE"), ","), name) {
		t.Fatalf("%s is required and not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// newSSHD makes a server's keys and configuration, and does not start it.
func newSSHD(t *testing.T, authorizedKey string) *sshd {
	t.Helper()
	need(t, "sshd", "/usr/sbin/sshd")
	keygen := need(t, "ssh-keygen", "/usr/bin/ssh-keygen")
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
	s := &sshd{user: me.Username, dir: dir, addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))}
	config := []string{
		"ListenAddress " + s.addr.String(),
		"AuthorizedKeysFile " + filepath.Join(dir, "authorized_keys"),
		"PidFile none", "StrictModes no", "PermitRootLogin prohibit-password",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no", "UseDNS no",
		"Subsystem sftp internal-sftp",
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		path := filepath.Join(dir, "host_"+kind)
		args := []string{"-q", "-t", kind, "-N", "", "-f", path, "-C", "host"}
		if err := (run.Cmd{Path: keygen, Args: args}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		s.hostKeys = append(s.hostKeys, strings.TrimSpace(string(public)))
		config = append(config, "HostKey "+path)
	}
	write(t, filepath.Join(dir, "authorized_keys"), authorizedKey+"\n", 0o600)
	write(t, filepath.Join(dir, "sshd_config"), strings.Join(config, "\n")+"\n", 0o600)
	return s
}

// start starts the server and ends it with the test.
func (s *sshd) start(t *testing.T) *sshd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := run.Cmd{
		Path: "/usr/sbin/sshd", Args: []string{"-D", "-e", "-f", filepath.Join(s.dir, "sshd_config")},
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	}.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.process = p
	t.Cleanup(func() { cancel(); p.Wait() })
	return s
}

func (s *sshd) target() remote.Target {
	return remote.Target{Addr: s.addr, User: s.user, HostKeys: s.hostKeys}
}

func (s *sshd) port() string { return fmt.Sprint(s.addr.Port()) }

// connected is a client and a connection to a fresh server.
func connected(t *testing.T) (*remote.Client, *sshd, *remote.Conn) {
	t.Helper()
	client, err := remote.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := newSSHD(t, client.AuthorizedKey()).start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := client.Connect(ctx, s.target())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client, s, conn
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

func lines(text string) []string {
	var all []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}
