// Package need is how tests say what of the machine they cannot do without. What
// is absent skips them, unless the environment's OVSA_REQUIRE, a list with commas,
// names it: then they fail.
package need

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/run"
)

// Required tells whether OVSA_REQUIRE names something.
func Required(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("OVSA_REQUIRE"), ","), name)
}

// Absent ends a test for a reason: it has not what is known by that name.
func Absent(t testing.TB, name, reason string) {
	t.Helper()
	if Required(name) {
		t.Fatalf("%s, and OVSA_REQUIRE names %q", reason, name)
	}
	t.Skip(reason)
}

// Root needs a test to run as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Absent(t, "root", "not root")
	}
}

// Programs needs programs and, by names with a slash, files.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Program(t, name)
	}
}

// Program needs one program, or a file by a name with a slash, and returns its
// path. It is looked for where root finds it, whoever runs the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	if strings.Contains(name, "/") {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	} else {
		if path, found := run.Find(name, os.Getenv("PATH")+":/usr/sbin:/sbin"); found {
			return path
		}
	}
	Absent(t, name, "there is no "+name)
	return ""
}

// Tool needs a file that make has put into the module's directory, by its path there.
func Tool(t testing.TB, path string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("not in the module's directory")
		}
		dir = filepath.Dir(dir)
	}
	if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
		Absent(t, path, "there is no "+path+", which `make test-deps` makes")
	}
	return filepath.Join(dir, path)
}
