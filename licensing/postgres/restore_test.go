package postgres_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
)

// command runs a program of PostgreSQL's on a database.
func command(t *testing.T, stdin []byte, name, url string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), postgrestest.Program(t, name), append(args, "-d", url)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, &stderr)
	}
	return out
}

func sold(t *testing.T, l *ledger.Ledger) (ledger.Licence, ledger.Lease) {
	t.Helper()
	lic := ledger.Licence{
		GUID: "00000000-0000-4000-8000-000000000001", Model: "00000000-0000-4000-8000-00000000000a", Type: ledger.InstanceLimit, Instances: 1,
		Document: []byte("document"), Primary: []byte("primary"), Secondary: []byte("secondary"),
	}
	if _, err := l.Store(t.Context(), lic, time.Now(), func(ledger.Licence) error { return nil }); err != nil {
		t.Fatal(err)
	}
	lease, err := l.Claim(t.Context(), ledger.Claim{GUID: lic.GUID, Model: lic.Model, Guest: "000b01", Expires: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return lic, lease
}

// TestRestore is what docs/license-server.md says of backups: a dump that is restored
// elsewhere goes on where it was, and its audit log is whole.
func TestRestore(t *testing.T) {
	s := postgrestest.Start(t)
	s.Create(t, "before")
	s.Create(t, "after")
	l, err := postgres.Open(t.Context(), s.URL("before"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lic, lease := sold(t, l)
	n, head, err := l.VerifyAudit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dump := command(t, nil, "pg_dump", s.URL("before"), "--no-owner", "--no-privileges")
	command(t, dump, "psql", s.URL("after"), "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction")

	restored, err := postgres.Open(t.Context(), s.URL("after"))
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if m, other, err := restored.VerifyAudit(t.Context(), nil); err != nil || m != n || other != head {
		t.Errorf("its log has %d entries and ends with %x, want %d and %x: %v", m, other, n, head, err)
	}
	if _, err := restored.Renew(t.Context(), lease.ID, lease.Guest, time.Hour, 24*time.Hour, time.Now()); err != nil {
		t.Errorf("a lease: %v", err)
	}
	use, err := restored.Usage(t.Context(), lic.GUID, lic.Model, time.Now())
	if err != nil || use.Held != 1 {
		t.Errorf("%+v, %v", use, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// grants are the statements of docs/license-server.md for a role that may not change
// the schema.
func grants(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```sql\n(.*?)```").FindStringSubmatch(read(t, "../../docs/license-server.md"))
	if found == nil {
		t.Fatal("the document has no statements")
	}
	return found[1]
}

// A server's role needs no right to change the schema, once that is up to date.
func TestRoles(t *testing.T) {
	s := postgrestest.Start(t)
	s.Create(t, "ovsa")
	owner, err := postgres.Open(t.Context(), s.URL("ovsa"))
	if err != nil {
		t.Fatal(err)
	}
	owner.Close()
	command(t, []byte(grants(t)), "psql", s.URL("ovsa"), "-q", "-v", "ON_ERROR_STOP=1")
	url := strings.Replace(s.URL("ovsa"), "user=test", "user=ovsa", 1)
	l, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, lease := sold(t, l)
	if _, err := l.Renew(t.Context(), lease.ID, lease.Guest, time.Hour, 24*time.Hour, time.Now()); err != nil {
		t.Error(err)
	}
	for _, statement := range []string{"DROP TABLE audit", "TRUNCATE audit", "UPDATE audit SET entry = ''", "DELETE FROM audit", "CREATE TABLE x ()"} {
		cmd := exec.CommandContext(t.Context(), postgrestest.Program(t, "psql"), "-d", url, "-c", statement)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "permission denied") && !strings.Contains(string(out), "must be owner") {
			t.Errorf("%s: %v: %s", statement, err, fmt.Sprintf("%.200s", out))
		}
	}
}
