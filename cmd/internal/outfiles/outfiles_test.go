package outfiles

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
)

// TestOutputsAreAllOrNothing: whichever of three files fails, and with or without
// -force, what was there before is there, and nothing else.
func TestOutputsAreAllOrNothing(t *testing.T) {
	boom := errors.New("boom")
	for _, force := range []bool{false, true} {
		for broken := range 3 {
			dir := t.TempDir()
			o := &Set{Force: force}
			for i := range 3 {
				path := filepath.Join(dir, string(rune('a'+i)))
				if force {
					if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				o.AddFunc(path, func(w io.Writer) error {
					io.WriteString(w, "new")
					if i == broken {
						return boom
					}
					return nil
				})
			}
			if err := o.Write(); !errors.Is(err, boom) {
				t.Fatalf("%v, want boom", err)
			}
			entries, _ := os.ReadDir(dir)
			if (len(entries) == 3) != force || !force && len(entries) > 0 {
				t.Errorf("force %v, file %d broken: %v", force, broken, entries)
			}
			for _, e := range entries {
				if got, _ := os.ReadFile(filepath.Join(dir, e.Name())); string(got) != "old" {
					t.Errorf("force %v, file %d broken: %s has %q", force, broken, e.Name(), got)
				}
			}
		}
	}
}

// TestOutputsMeetAnotherProgram: a file that somebody else makes meanwhile stays.
func TestOutputsMeetAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	o := &Set{}
	o.Add(a, []byte("new"))
	o.AddFunc(b, func(io.Writer) error { return os.WriteFile(b, []byte("theirs"), 0o600) })
	if err := o.Check(a, b); err != nil {
		t.Fatal(err)
	}
	if err := o.Write(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(b); string(got) != "theirs" {
		t.Errorf("b has %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}

// TestCheckBeforeWork: what a killed run left is gone before anything is refused,
// and a directory that cannot be written to is refused before any work is done.
func TestCheckBeforeWork(t *testing.T) {
	dir := t.TempDir()
	path, left := filepath.Join(dir, "a"), filepath.Join(dir, ".a.123.tmp")
	for _, name := range []string{path, left} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&Set{}).Check(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want fs.ErrExist", err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}

	need.Root(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		need.Absent(t, "root", "root may not mount: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := (&Set{}).Check(path); !errors.Is(err, unix.EROFS) || hint.Of(err) == "" {
		t.Errorf("%v, hint %q, want a read-only file system", err, hint.Of(err))
	}
}
