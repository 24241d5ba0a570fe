package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/ledger/ledgertest"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// places gives each test a file of its own.
type places map[*testing.T]string

func (p places) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	if p[t] == "" {
		p[t] = filepath.Join(t.TempDir(), "a ?#% name.db")
	}
	l, err := sqlite.Open(t.Context(), p[t])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLedger(t *testing.T) { ledgertest.Run(t, places{}.open) }

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func filled(t *testing.T) (path string, l *ledger.Ledger) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ovsa.db")
	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, guid := range []string{"a", "b", "c"} {
		lic := ledger.Licence{GUID: guid, Model: "m", Type: ledger.Sale, Document: []byte("d"), Primary: []byte("p"), Secondary: []byte("s")}
		if _, err := l.Store(t.Context(), lic, now, nil); err != nil {
			t.Fatal(err)
		}
	}
	return path, l
}

func TestFileIsItsOwnersAlone(t *testing.T) {
	path, _ := filled(t)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 { // the WAL is there
		t.Fatal(files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}

func TestBackup(t *testing.T) {
	path, l := filled(t)
	to := filepath.Join(t.TempDir(), "backup.db")
	if err := sqlite.Backup(t.Context(), path, to); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Backup(t.Context(), path, to); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another backup: %v", err)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	copied, err := sqlite.Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	_, want, err := l.VerifyAudit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, got, err := copied.VerifyAudit(t.Context(), nil); n != 3 || got != want || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
	if err := sqlite.Backup(t.Context(), filepath.Join(t.TempDir(), "none.db"), to+"2"); err == nil {
		t.Error("a backup of nothing")
	}
}

// Whoever can write the file can write the log. The chain shows it.
func TestTamperedAudit(t *testing.T) {
	for _, tt := range []struct{ name, statement, where string }{
		{"an entry changed", `UPDATE audit SET entry = '{"at":"2026-11-01T12:00:00Z","what":"store"}' WHERE seq = 2`, "entry 2: "},
		{"an entry removed", `DELETE FROM audit WHERE seq = 2`, "entry 2 is missing"},
		{"the first removed", `DELETE FROM audit WHERE seq = 1`, "entry 1 is missing"},
		{"the last removed", `DELETE FROM audit WHERE seq = 3`, "it ends with entry 2, and should with 3"},
		{"entries swapped", `UPDATE audit SET seq = CASE seq WHEN 1 THEN -2 WHEN 2 THEN -1 END WHERE seq < 3; UPDATE audit SET seq = -seq WHERE seq < 0`, "entry 1: "},
		{"one added", `INSERT INTO audit SELECT 4, entry, hash FROM audit WHERE seq = 3; UPDATE head SET seq = 4`, "entry 4: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, l := filled(t)
			db, err := sql.Open("sqlite3", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for s := range strings.SplitSeq(tt.statement, "; ") {
				if _, err := db.Exec(s); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := l.VerifyAudit(t.Context(), nil); !errors.Is(err, ledger.ErrTampered) || !strings.Contains(err.Error(), tt.where) {
				t.Errorf("want %q: %v", tt.where, err)
			}
		})
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path, l := filled(t)
	l.Close()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO schema_version VALUES (99)`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("error %v", err)
	}
}
