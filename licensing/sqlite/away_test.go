package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// What a database that is away does not say is not taken for nothing.
func TestDatabaseThatIsAway(t *testing.T) {
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ovsa.db"))
	if err != nil {
		t.Fatal(err)
	}
	if log, err := l.Log(t.Context(), "tcb"); err != nil || log != nil {
		t.Errorf("a log that nobody kept: %q, %v", log, err)
	}
	l.Close()
	if _, err := l.Log(t.Context(), "tcb"); err == nil {
		t.Error("no log, says a database that is closed")
	}
}
