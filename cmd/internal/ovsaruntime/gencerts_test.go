package ovsaruntime

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// runGencerts runs the command, and expects an exit code and what it says.
func runGencerts(t *testing.T, dir string, want int, says string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: append([]string{"gencerts", "-certs", dir}, args...), Stdout: &out, Stderr: &out})
	if code != want || !strings.Contains(out.String(), says) {
		t.Errorf("%s: exit %d, %s", args, code, &out)
	}
}

func TestGencerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Modelserver")
	gencerts := func(want int, says string, args ...string) {
		t.Helper()
		runGencerts(t, dir, want, says, args...)
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

	// A key that others may read is one that others have.
	if err := os.Chmod(filepath.Join(dir, "alice.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	gencerts(1, "hint: chmod 600 ", "-client", "alice")
	// An authority whose key is elsewhere stays.
	key := filepath.Join(dir, "client_ca.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	gencerts(0, "everything is there")
	gencerts(1, "it is another's authority", "-client", "bob")
	gencerts(1, "hint: whoever made the client's certificate revokes it", "-revoke", "alice")
	if read("client_ca.pem") != ca {
		t.Error("another's authority is gone")
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(dir, "client_ca.pem"), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	gencerts(1, "hint: move it away, and it is made anew")
	for _, name := range []string{"server", "client_ca", "../x", "", ".x"} {
		gencerts(2, "is no name for a client", "-client", name)
		gencerts(2, "is no name for a client", "-revoke", name)
	}
}

// Whoever is revoked is so with each certificate that was made, also by an older list,
// and no other client is.
func TestGencertsRevoke(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Modelserver")
	gencerts := func(want int, says string, args ...string) {
		t.Helper()
		runGencerts(t, dir, want, says, args...)
	}
	load := func(name string) *x509.Certificate {
		t.Helper()
		certs, err := pki.ReadFile(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		return certs[0]
	}
	gencerts(0, "made ", "-client", "alice")
	gencerts(0, "made ", "-client", "bob")
	gencerts(0, "made ", "-client", "carol")
	first := load("alice")
	gencerts(0, "made ", "-client", "alice", "-renew")
	second := load("alice")
	gencerts(1, `no certificate of "nobody" is known`, "-revoke", "nobody")
	gencerts(0, "revoked 2 of alice's certificates", "-revoke", "alice")
	gencerts(0, `"revoked": 1`, "-revoke", "carol", "-json")
	gencerts(0, "revoked 0 of carol's certificates", "-revoke", "carol")
	gencerts(0, "made alice.pem", "-client", "alice")
	gencerts(0, "everything is there", "-client", "alice")
	list, err := pki.ReadRevocations(filepath.Join(dir, "client.crl"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		want bool
	}{
		"alice's first": {first, true}, "alice's second": {second, true}, "alice's third": {load("alice"), false},
		"bob's": {load("bob"), false}, "carol's": {load("carol"), true},
	} {
		if got := pki.IsRevoked(list, tt.cert.SerialNumber); got != tt.want {
			t.Errorf("%s is revoked: %t", name, got)
		}
	}
	ca := load("client_ca")
	if err := list.CheckSignatureFrom(ca); err != nil || list.Number.Int64() != 3 || !list.NextUpdate.Equal(ca.NotAfter) {
		t.Errorf("list %v until %s: %v", list.Number, list.NextUpdate, err)
	}

	// Another authority's list is not written over.
	other := filepath.Join(t.TempDir(), "other")
	runGencerts(t, other, 0, "made ")
	runGencerts(t, other, 0, "revoked 1", "-revoke", "client")
	foreign, err := os.ReadFile(filepath.Join(other, "client.crl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.crl"), foreign, 0o644); err != nil {
		t.Fatal(err)
	}
	gencerts(1, "is not by the authority in client_ca.pem", "-revoke", "bob")

	// With a new authority the old one's list is gone.
	for _, ending := range []string{"pem", "key"} {
		if err := os.Remove(filepath.Join(dir, "client_ca."+ending)); err != nil {
			t.Fatal(err)
		}
	}
	gencerts(0, "made client_ca.pem, alice.pem", "-client", "alice")
	if _, err := os.Stat(filepath.Join(dir, "client.crl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its list: %v", err)
	}
}

// Those who make certificates at the same time do not undo each other's.
func TestGencertsTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Modelserver")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { runGencerts(t, dir, 0, fmt.Sprintf("client%d.pem", i), "-client", fmt.Sprintf("client%d", i)) })
	}
	all.Wait()
	issued, err := os.ReadFile(filepath.Join(dir, issuedName))
	if err != nil || strings.Count(string(issued), "\n") != 8 {
		t.Errorf("%s, %v", issued, err)
	}
	for i := range 8 {
		all.Go(func() { runGencerts(t, dir, 0, "revoked 1 of ", "-revoke", fmt.Sprintf("client%d", i)) })
	}
	all.Wait()
	list, err := pki.ReadRevocations(filepath.Join(dir, crlName))
	if err != nil || len(list.RevokedCertificateEntries) != 8 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestCertificatesThatEnd(t *testing.T) {
	dir := t.TempDir()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ports := keystore.Machine()
	ports.Now = func() time.Time { return made }
	if code := Program(ports).Run(t.Context(), guestcli.Env{Args: []string{"gencerts", "-certs", dir}, Stdout: io.Discard, Stderr: io.Discard}); code != 0 {
		t.Fatalf("exit %d", code)
	}
	ends := frontCerts(dir).ends()
	if want := made.Add(certTime); len(ends) != 2 || !ends["server.pem"].Equal(want) || !ends["client_ca.pem"].Equal(want) {
		t.Errorf("%v", ends)
	}
	for days, want := range map[int][]string{
		300: nil,
		340: {"the front's certificate ends soon", "the front's certificate ends soon"},
		366: {"the front's certificate has ended: clients cannot connect", "the front's certificate has ended: clients cannot connect"},
	} {
		log := new(testlog.Log)
		frontCerts(dir).warn(slog.New(slog.NewJSONHandler(log, nil)), made.AddDate(0, 0, days))
		var says []string
		for dec := json.NewDecoder(strings.NewReader(log.String())); dec.More(); {
			var line struct{ Msg, Fix string }
			if err := dec.Decode(&line); err != nil || line.Fix == "" {
				t.Fatal(line, err)
			}
			says = append(says, line.Msg)
		}
		if !slices.Equal(says, want) {
			t.Errorf("after %d days: %q", days, says)
		}
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
