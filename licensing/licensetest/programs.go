package licensetest

import (
	"os"
	"testing"
)

// ProgramDir is a directory for programs and libraries of engines, who see nothing of
// what is in scratch directories, where tests have theirs.
func ProgramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "ovsa-test-") //nolint:usetesting // not below a scratch directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// CopyProgram copies a file that everybody may execute.
func CopyProgram(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}
