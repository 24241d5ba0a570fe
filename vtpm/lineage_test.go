package vtpm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// lineage binds a vTPM as a start does, and returns its lineage as guests show it.
func lineage(t *testing.T, host *vtpmtest.Host, uuid string) string {
	t.Helper()
	bound := id
	bound.UUID = uuid
	if err := host.Open(t).Bind(t.Context(), bound); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(host.DataDir, "vtpm", uuid, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	record, err := quote.ParseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := quote.ParseClaims(record.Claims)
	if err != nil {
		t.Fatal(err)
	}
	return claims.Lineage
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A vTPM keeps its lineage from start to start, until its host finds another state
// than it left.
func TestLineage(t *testing.T) {
	host := vtpmtest.New(t)
	if err := host.Open(t).Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	const otherVM = "0b5e7a52-9f6a-4a63-8c11-0e8f4a6d2b22"
	state, backup := filepath.Join(host.StateDir, id.UUID), filepath.Join(t.TempDir(), "backup")
	first := lineage(t, host, id.UUID)
	if again := lineage(t, host, id.UUID); again != first {
		t.Errorf("a second start: %s, was %s", again, first)
	}
	copyDir(t, state, backup)
	if again := lineage(t, host, id.UUID); again != first {
		t.Errorf("after a backup was made: %s, was %s", again, first)
	}

	copyDir(t, state, filepath.Join(host.StateDir, otherVM))
	twin := lineage(t, host, otherVM)
	if twin == first {
		t.Error("a copy for another machine has the lineage")
	}
	if again := lineage(t, host, otherVM); again != twin {
		t.Errorf("the copy's second start: %s, was %s", again, twin)
	}

	copyDir(t, backup, state)
	restored := lineage(t, host, id.UUID)
	if restored == first {
		t.Error("a state that was put back has the lineage")
	}
	if again := lineage(t, host, id.UUID); again != restored {
		t.Errorf("its second start: %s, was %s", again, restored)
	}
}

// A Bind that dies leaves what the next one knows as its own, wherever it was.
func TestLineageOfABindThatDied(t *testing.T) {
	host := vtpmtest.New(t)
	if err := host.Open(t).Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	first := lineage(t, host, id.UUID)
	dir := filepath.Join(host.DataDir, "vtpm", id.UUID)
	state, before := filepath.Join(host.StateDir, id.UUID), filepath.Join(t.TempDir(), "before")
	old, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	copyDir(t, state, before)
	if again := lineage(t, host, id.UUID); again != first {
		t.Fatal(again)
	}
	next, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(record, next []byte) {
		t.Helper()
		for name, data := range map[string][]byte{"record.json": record, "record.next.json": next} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(old, next) // died after the vTPM had the new record
	if again := lineage(t, host, id.UUID); again != first {
		t.Errorf("died before its last step: %s, was %s", again, first)
	}
	if _, err := os.Stat(filepath.Join(dir, "record.next.json")); !os.IsNotExist(err) {
		t.Errorf("something is left of it: %v", err)
	}
	copyDir(t, before, state)
	put(old, next) // died before the vTPM had it
	if again := lineage(t, host, id.UUID); again != first {
		t.Errorf("died before it wrote: %s, was %s", again, first)
	}

	// Died while it wrote: the vTPM has no whole record.
	copyDir(t, before, state)
	put(old, next)
	host.RemoveRecord(t, id.UUID)
	if again := lineage(t, host, id.UUID); again != first {
		t.Errorf("died while it wrote: %s, was %s", again, first)
	}
	// The same without a Bind that could have done it.
	host.RemoveRecord(t, id.UUID)
	if again := lineage(t, host, id.UUID); again == first {
		t.Error("somebody took the record away, and the lineage stays")
	}
}

// A record that this version cannot read is one that the host wrote all the same.
func TestLineageOfAnOlderRecord(t *testing.T) {
	host := vtpmtest.New(t)
	if err := host.Open(t).Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	first := lineage(t, host, id.UUID)
	path := filepath.Join(host.DataDir, "vtpm", id.UUID, "record.json")
	old, err := json.Marshal(map[string]string{"version": "0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := lineage(t, host, id.UUID); again == first || len(again) != 32 {
		t.Errorf("lineage %q", again)
	}
}
