package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
)

func TestExplain(t *testing.T) {
	spec := Spec{Suite: "trixie"}
	for problem, want := range map[string]string{
		"E: Failed to fetch http://x  Could not connect to x:80 (1.2.3.4), connection timed out": "cannot be reached",
		"E: Failed to fetch http://x  Temporary failure resolving 'x'":                           "cannot be reached",
		"E: The repository 'http://x trixi Release' does not have a Release file.":               "`suite` and `mirror`",
		"E: Unable to locate package nginxx":                                                     "`packages`",
		"E: You don't have enough free space: No space left on device":                           "prune",
		"E: something else": "",
	} {
		err := explain(errors.New("mmdebstrap failed"), spec, problem)
		if got := hint.Of(err); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: hint %q, want %q in it", problem, got, want)
		}
	}
}

func TestLineWriterKeepsTheFirstProblems(t *testing.T) {
	var lines []string
	w := &lineWriter{line: func(l string) { lines = append(lines, l) }}
	for _, chunk := range []string{"I: one\nE: b", "ad\nE: bad\nW: no", "thing\nE: worse\nE: three\nE: four\n"} {
		w.Write([]byte(chunk))
	}
	if len(lines) != 7 || lines[1] != "E: bad" {
		t.Errorf("lines %q", lines)
	}
	if got := w.problems(); got != "E: bad; E: worse; E: three" {
		t.Errorf("problems %q", got)
	}
}

func TestRootCannotBeLeft(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Write("/etc/outside", []byte("theirs"), 0o644); err == nil {
		t.Error("a link out of the tree was followed")
	}
	if got, _ := os.ReadFile(outside); string(got) != "mine" {
		t.Errorf("the file outside holds %q", got)
	}
	if err := root.Write("/usr/lib/new", []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "usr/lib/new")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}
