package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// TestOlderDatabases: what an older version wrote goes on: its licence, its lease,
// its revocation, its log. testdata/schema-2.sql is what it wrote, as text.
func TestOlderDatabases(t *testing.T) {
	text, err := os.ReadFile("testdata/schema-2.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ovsa.db")
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(text)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx := t.Context()
	entries, _, err := l.VerifyAudit(ctx, nil)
	if err != nil || entries != 3 {
		t.Errorf("its log has %d entries: %v", entries, err)
	}
	all, err := l.Licences(ctx, "", "", 10)
	if err != nil || len(all) != 1 || !all[0].Archived.IsZero() {
		t.Fatalf("its licences: %+v, %v", all, err)
	}
	lic := all[0]
	signed, err := licensing.Verify[licensing.Licence](lic.Document)
	if err != nil || string(signed.Document.Product()) != lic.GUID {
		t.Errorf("its document: %v", err)
	}
	now := lic.Created.Add(time.Minute)
	if use, err := l.Usage(ctx, lic.GUID, lic.Model, now); err != nil || use.Held != 1 || use.Claims != 1 {
		t.Errorf("%+v, %v", use, err)
	}
	again := ledger.Claim{GUID: lic.GUID, Model: lic.Model, Guest: "000b01", Clock: ledger.Clock{Resets: 1, Millis: 4}, Expires: now.Add(time.Hour)}
	if _, err := l.Claim(ctx, again, now); !errors.Is(err, ledger.ErrRolledBack) {
		t.Errorf("a clock that is behind: %v", err)
	}
	again.Clock.Millis = 6
	lease, err := l.Claim(ctx, again, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Renew(ctx, lease.ID, again.Guest, time.Hour, 24*time.Hour, now); err != nil {
		t.Error(err)
	}
	again.Subjects = []ledger.Subject{{Kind: ledger.KindHost, ID: "stolen"}}
	if _, err := l.Claim(ctx, again, now); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("from a host that was revoked: %v", err)
	}
	if err := l.Archive(ctx, []ledger.Key{lic.Key()}, now); err != nil {
		t.Error(err)
	}
}
