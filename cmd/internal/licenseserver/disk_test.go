package licenseserver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// TestFullAndReadOnlyDisks: a database that cannot be written to is said to be so,
// with what to do about it, and takes its entries when it can be again.
func TestFullAndReadOnlyDisks(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		need.Absent(t, "root", "root may not mount: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	db := filepath.Join(dir, "ovsa.db")
	l, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	revoke := func(id string) (code int, said string) {
		var stderr bytes.Buffer
		code = Program(Ports{Now: time.Now}).Run(t.Context(), guestcli.Env{Args: []string{"revoke", "host", id, "-reason", "test", "-db", db}, Stderr: &stderr})
		return code, stderr.String()
	}

	full, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if code, said := revoke("a"); code != 1 || !strings.Contains(said, "hint: the disk is full: make room in") {
		t.Errorf("full: exit %d, %s", code, said)
	}
	if err := os.Remove(full.Name()); err != nil {
		t.Fatal(err)
	}
	full.Close()
	if code, said := revoke("b"); code != 0 {
		t.Errorf("with room again: exit %d, %s", code, said)
	}

	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if code, said := revoke("c"); code != 1 || !strings.Contains(said, "hint: ") || !strings.Contains(said, "have the disk mounted for writing") && !strings.Contains(said, "have it mounted for writing") {
		t.Errorf("read-only: exit %d, %s", code, said)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if code, said := revoke("d"); code != 0 {
		t.Errorf("writable again: exit %d, %s", code, said)
	}
}
