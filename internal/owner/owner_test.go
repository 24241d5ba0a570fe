package owner

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
)

// daemon is a user, and a group of that name, of every distribution.
const daemon = 1

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// TestGive: whose a file is that root makes follows from its directory.
func TestGive(t *testing.T) {
	need.Root(t)
	for _, tt := range []struct {
		name     string
		uid, gid int
		mode     os.FileMode
		want     int
	}{
		{"a user's directory", daemon, daemon, 0o700, daemon},
		{"root's, where a group writes", 0, daemon, 0o1770, daemon},
		{"root's, where a group reads", 0, daemon, 0o750, 0},
		{"root's, of a group without a user", 0, 54321, 0o770, 0},
		{"root's", 0, 0, 0o775, 0},
	} {
		dir := t.TempDir()
		if err := os.Chown(dir, tt.uid, tt.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, tt.mode); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "file")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Give(f, path); err != nil {
			t.Fatal(err)
		}
		if got := ownerOf(t, path); got != tt.want {
			t.Errorf("%s: user %d, want %d", tt.name, got, tt.want)
		}
		deep := filepath.Join(dir, "a", "b")
		for range 2 {
			if err := MkdirAll(deep, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if tt.uid == daemon && (ownerOf(t, filepath.Dir(deep)) != daemon || ownerOf(t, deep) != daemon) {
			t.Errorf("%s: its directories are not its user's", tt.name)
		}
	}
}

func TestName(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	for uid, want := range map[int]string{0: "root", daemon: "daemon", 54321: "uid 54321"} {
		if err := os.Chown(dir, uid, 0); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, filepath.Join(dir, "not", "there")} {
			if got := Name(path); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	}
}

// TestMkdirAllInTheWay: what is no directory is left alone.
func TestMkdirAllInTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := MkdirAll(path, 0o755); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}
