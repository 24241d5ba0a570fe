package component_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What an earlier version is on record with is removed where components are, and
// nowhere else, however the record came to say so: no path outside, no directory, and
// none by an empty word.
func TestUpgradeRemovesNothingElse(t *testing.T) {
	packages, dest := built(t, "1.0"), t.TempDir()
	install(t, unpack(t, packages, "developer"), dest)
	stay := []string{"etc/passwd", "opt/passwd", "opt/ovsa/kvm/keystore/mine"}
	for _, path := range stay {
		full := filepath.Join(dest, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte("theirs"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	empty := filepath.Join(dest, "opt/ovsa/kvm/artefacts")
	goes := filepath.Join(dest, "opt/ovsa/kvm/bin/gone")
	if err := os.WriteFile(goes, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dest, "var/lib/ovsactl/components/developer.files")
	if err := edit(list, func(s string) string {
		return s + "/etc/passwd\n/opt/passwd\n/opt/ovsa/../passwd\n/opt/ovsa/kvm/artefacts\n\n/\n.\n/opt/ovsa/kvm/bin/gone\n"
	}); err != nil {
		t.Fatal(err)
	}
	install(t, unpack(t, built(t, "2.0"), "developer"), dest)
	for _, path := range stay {
		if text, err := os.ReadFile(filepath.Join(dest, path)); err != nil || string(text) != "theirs" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if _, err := os.Stat(empty); err != nil {
		t.Errorf("a directory: %v", err)
	}
	if _, err := os.Stat(goes); err == nil {
		t.Error("a file of the old version is still there")
	}
}
