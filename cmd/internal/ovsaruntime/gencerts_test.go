package ovsaruntime

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
)

func TestGencerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Modelserver")
	gencerts := func(want int, says string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: append([]string{"gencerts", "-certs", dir}, args...), Stdout: &out, Stderr: &out})
		if code != want || !strings.Contains(out.String(), says) {
			t.Errorf("%s: exit %d, %s", args, code, &out)
		}
	}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	gencerts(0, "made server.pem, client_ca.pem, client.pem", "-host", "models.example.org", "192.0.2.7")
	server, ca, client := read("server.pem"), read("client_ca.pem"), read("client.pem")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	if c := pair.Leaf; !slices.Equal(c.DNSNames, []string{"models.example.org"}) || len(c.IPAddresses) != 1 || c.IPAddresses[0].String() != "192.0.2.7" {
		t.Errorf("names %v, %v", c.DNSNames, c.IPAddresses)
	}
	gencerts(0, "everything is there")
	gencerts(0, "[\n  \"alice.pem\"\n]", "-client", "alice", "-json")
	if read("server.pem") != server || read("client_ca.pem") != ca || read("client.pem") != client {
		t.Error("what was there is another")
	}

	// What was not made to its end is made anew: its key is missing, or another's.
	if err := os.Remove(filepath.Join(dir, "server.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.key"), []byte(read("alice.key")), 0o600); err != nil {
		t.Fatal(err)
	}
	gencerts(0, "made server.pem, client.pem, each with its key")
	if read("client_ca.pem") != ca {
		t.Error("another authority")
	}
	server = read("server.pem")
	gencerts(0, "made server.pem, client.pem", "-renew")
	if read("server.pem") == server || read("client_ca.pem") != ca {
		t.Error("not renewed, or the authority, too")
	}

	if err := os.WriteFile(filepath.Join(dir, "client_ca.pem"), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	gencerts(1, "hint: move it away, and it is made anew")
	for _, name := range []string{"server", "client_ca", "../x", "", ".x"} {
		gencerts(2, "is no name for a client", "-client", name)
	}
}

// Where clients are another authority's, its certificate stays, and none is made for
// them; the front's own is for all that this machine is called.
func TestGencertsOfAnotherAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "client_ca.pem"), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: []string{"gencerts", "-certs", dir}, Stdout: &out, Stderr: &out}); code != 0 {
		t.Fatalf("exit %d, %s", code, &out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "client*")); len(left) != 1 {
		t.Errorf("there is %q", left)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "client_ca.pem")); err != nil || string(data) != "theirs" {
		t.Errorf("%q, %v", data, err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.Hostname()
	if err != nil || !slices.Contains(pair.Leaf.DNSNames, name) || pair.Leaf.DNSNames[0] != "localhost" || pair.Leaf.IPAddresses[0].String() != "127.0.0.1" {
		t.Errorf("%v: names %q, %v", err, pair.Leaf.DNSNames, pair.Leaf.IPAddresses)
	}
}
