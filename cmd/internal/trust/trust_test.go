package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func TestNamed(t *testing.T) {
	one, two := Store{For: "one"}, Store{For: "two"}
	for _, tt := range []struct {
		stores  Stores
		purpose string
		want    string
		fails   string
	}{
		{Stores{All: []Store{one, two}}, "two", "two", ""},
		{Stores{All: []Store{one, two}, Default: "one"}, "", "one", ""},
		{Stores{All: []Store{one, two}, Default: "one"}, "two", "two", ""},
		{Stores{All: []Store{one, two}}, "", "", "nothing says what to believe it for"},
		{Stores{All: []Store{one, two}, Default: "one"}, "three", "", `"three" is nothing that certificates are believed for`},
	} {
		got, err := tt.stores.Named(tt.purpose)
		if got.For != tt.want || (err == nil) != (tt.fails == "") || err != nil && (err.Error() != tt.fails || hint.Of(err) != "there is one, two") {
			t.Errorf("%q: %q, %v, hint %q", tt.purpose, got.For, err, hint.Of(err))
		}
	}
}

// certificate is a file with a self-signed certificate, which is no authority's.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	subject, err := pki.ParseSubject("/CN=party")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.SelfSigned(licensetest.NewParty(t, "party").Key, subject, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "party.crt")
	if err := os.WriteFile(path, pki.EncodePEM(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStores: what is put into a store is listed, and no longer missing; what means
// nothing in it is refused.
func TestStores(t *testing.T) {
	dir := t.TempDir()
	path := certificate(t, dir)
	parties := Store{For: "party", Dir: filepath.Join(dir, "a", "parties"), Lacks: "nothing is sold"}
	makers := Store{For: "maker", Dir: filepath.Join(dir, "makers"), Lacks: "nothing verifies", Authorities: true}
	shown := func() string {
		t.Helper()
		all, err := List(parties, makers)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := Write(&b, all, "tool trust add -for"); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const missing = "missing: party: nothing is sold\n    tool trust add -for party FILE\n"
	if got := shown(); !strings.Contains(got, missing) || strings.Contains(got, "SHA-256") {
		t.Errorf("empty: %s", got)
	}
	if _, err := makers.Add(path); err == nil || !strings.Contains(err.Error(), "is not an authority's certificate") {
		t.Errorf("a party as a maker: %v", err)
	}
	added, err := parties.Add(path)
	if err != nil || len(added) != 1 || added[0].For != "party" || added[0].Authority {
		t.Fatalf("%+v, %v", added, err)
	}
	if got := shown(); strings.Contains(got, missing) || !strings.Contains(got, added[0].ID[:16]) || !strings.Contains(got, "missing: maker: nothing verifies") {
		t.Errorf("with one: %s", got)
	}
	if _, err := makers.Remove(added[0].ID); err == nil {
		t.Error("it was removed from another store")
	}
	if removed, err := parties.Remove(added[0].ID[:8]); err != nil || removed.ID != added[0].ID {
		t.Errorf("%+v, %v", removed, err)
	}
	if got := shown(); !strings.Contains(got, missing) {
		t.Errorf("empty again: %s", got)
	}

	two, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(two, two...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parties.Add(path); err == nil || !strings.Contains(err.Error(), "has 2 certificates") {
		t.Errorf("two in a file: %v", err)
	}
}
