package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
)

// mounted is a file system of 64 KiB.
func mounted(t *testing.T) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		need.Absent(t, "root", "root may not mount: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := mounted(t)
	path := filepath.Join(dir, "model.dat")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(path, make([]byte, 1<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(hint.Of(err), "the disk is full") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	if got, _ := os.ReadFile(path); string(got) != "old" || len(temps(t, dir)) > 0 {
		t.Errorf("the file has %q, and there is %v", got, temps(t, dir))
	}
	if err := WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Errorf("what fits: %v", err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := mounted(t)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(filepath.Join(dir, "key"), nil, 0o600)
	if !errors.Is(err, unix.EROFS) || !strings.Contains(hint.Of(err), "read-only") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Err: unix.EACCES}, `"/d" is not yours to write in: run it as root`},
		{&fs.PathError{Op: "write", Err: unix.EDQUOT}, "your quota is used up"},
		{hint.Wrap(unix.ENOSPC, "its own"), "its own"},
		{io.ErrUnexpectedEOF, ""},
	} {
		err := Explain(tt.err, "/d/f")
		if got := hint.Of(err); !errors.Is(err, tt.err) || !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%v: hint %q, want %q", tt.err, got, tt.want)
		}
	}
}
