package remote_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/run"
)

func TestOpenKeepsOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ssh")
	var group sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		group.Go(func() {
			c, err := remote.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = c.AuthorizedKey()
		})
	}
	group.Wait()
	for _, k := range keys {
		if k != keys[0] || !strings.HasPrefix(k, "ssh-ed25519 ") {
			t.Fatalf("first runs disagree: %q", keys)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "id_ed25519"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v %v", info.Mode(), err)
	}
}

func TestOpenRefusesUnsafeKeys(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		dir := t.TempDir()
		c, err := remote.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.KeyPath(), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Open(dir); err == nil || !strings.Contains(hint.Of(err), "chmod 600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "id_ed25519"), "garbage", 0o600)
	if _, err := remote.Open(dir); err == nil {
		t.Error("garbage accepted")
	}
}

func TestKnownHostsHoldOneEntryPerGuest(t *testing.T) {
	c, err := remote.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	key := func(i int) []string { return []string{keysOf(t)[i]} }
	foreign := "# mine\n@cert-authority *.example.org " + key(2)[0] + "\n"
	write(t, c.KnownHostsPath(), foreign, 0o600)
	steps := []struct {
		name string
		do   func() error
		want []string
	}{
		{"first", func() error { return c.Remember("ovsa_a", a, key(0)) }, []string{"ovsa_a,192.0.2.1"}},
		{"second", func() error { return c.Remember("ovsa_b", b, key(1)) }, []string{"ovsa_a,192.0.2.1", "ovsa_b,192.0.2.2"}},
		{"again", func() error { return c.Remember("ovsa_b", b, key(1)) }, []string{"ovsa_a,192.0.2.1", "ovsa_b,192.0.2.2"}},
		{"the address moves", func() error { return c.Remember("ovsa_b", a, key(1)) }, []string{"ovsa_b,192.0.2.1"}},
		{"forget", func() error { return c.Forget("ovsa_b", a) }, nil},
		{"forget again", func() error { return c.Forget("ovsa_b", netip.Addr{}) }, nil},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		text, err := os.ReadFile(c.KnownHostsPath())
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(string(text), foreign)
		if !ok {
			t.Errorf("%s: other entries changed: %q", s.name, text)
		}
		var hosts []string
		for _, line := range lines(rest) {
			hosts = append(hosts, strings.Fields(line)[0])
		}
		if strings.Join(hosts, " ") != strings.Join(s.want, " ") {
			t.Errorf("%s: got %q, want %q", s.name, hosts, s.want)
		}
	}
	for _, name := range []string{"", "a b", "a,b", "*", "a\nb", "|1|x", "-x"} {
		if err := c.Remember(name, a, key(0)); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
	if err := c.Remember("ovsa_a", a, nil); err == nil {
		t.Error("no keys accepted")
	}
}

func TestStockSSHReadsKnownHosts(t *testing.T) {
	ssh := need.Program(t, "ssh")
	client, s, _ := connected(t)
	if err := client.Remember("ovsa_a", s.Addr.Addr(), s.HostKeys); err != nil {
		t.Fatal(err)
	}
	for alias, ok := range map[string]bool{"ovsa_a": true, "127.0.0.1": true, "ovsa_b": false} {
		var out bytes.Buffer
		err := run.Cmd{Path: ssh, Args: []string{
			"-F", "none", "-o", "UserKnownHostsFile=" + client.KnownHostsPath(), "-o", "GlobalKnownHostsFile=none",
			"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=" + alias,
			"-i", client.KeyPath(), "-p", fmt.Sprint(s.Addr.Port()), s.User + "@127.0.0.1", "echo in",
		}, Stdout: &out}.Run(t.Context())
		if (err == nil) != ok || ok && out.String() != "in\n" {
			t.Errorf("%s: %v, %q", alias, err, out.String())
		}
	}
}

// keysOf gives three valid public keys.
func keysOf(t *testing.T) []string {
	t.Helper()
	var keys []string
	for range 3 {
		c, err := remote.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, c.AuthorizedKey())
	}
	return keys
}
