package standin_test

import (
	"os"
	"path/filepath"
	"testing"
)

// Whoever can connect to a TPM can use it: the sockets of a stand-in are in a
// directory that is its user's alone.
func TestStandInIsPrivate(t *testing.T) {
	dir := newDir(t)
	s := start(t, dir)
	defer s.Stop()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, name := range []string{"tpm", "host-tpm", "attest"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
