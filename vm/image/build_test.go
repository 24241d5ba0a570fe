package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/vm/image/internal/bootdisk"
	"github.com/ovsactl/ovsactl/vm/image/internal/rootfs"
	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
)

// requireBuild skips where images cannot be built.
func requireBuild(t *testing.T) {
	t.Helper()
	need.Root(t)
	if err := tool.Check(append(rootfs.Needs(), bootdisk.Needs()...)); err != nil {
		need.Absent(t, "mmdebstrap", err.Error())
	}
}

// empty checks that nothing but lock files is in the cache.
func empty(t *testing.T, c *Cache) {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "locks" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestBuildNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := openCache(t, t.TempDir())
	_, err := c.Ensure(t.Context(), Source{Name: "x", Build: &Build{Suite: "trixie", Size: 4 << 30}}, nil)
	if err == nil || !strings.Contains(err.Error(), "mmdebstrap") || !strings.Contains(hint.Of(err), "apt-get install mmdebstrap") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	empty(t, c)
}

func TestBuildChecksSpaceFirst(t *testing.T) {
	err := checkSpace(t.TempDir(), 1<<60)
	if err == nil || !strings.Contains(err.Error(), "this needs 1099511627776 MiB") || !strings.Contains(hint.Of(err), "prune") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	if err := checkSpace(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
}

func TestBuildWithoutMirror(t *testing.T) {
	requireBuild(t)
	c := openCache(t, t.TempDir())
	_, err := c.Ensure(t.Context(), Source{Name: "x", Build: &Build{
		Suite: "trixie", Mirror: "http://127.0.0.1:1/debian", Size: 4 << 30,
	}}, nil)
	if err == nil || !strings.Contains(hint.Of(err), "the package mirror http://127.0.0.1:1/debian cannot be reached") {
		t.Errorf("error %v\nhint %q", err, hint.Of(err))
	}
	empty(t, c)
}

func TestInterruptedBuildLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("installs packages")
	}
	requireBuild(t)
	c := openCache(t, t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	_, err := c.Ensure(ctx, Source{Name: "x", Build: &Build{Suite: "trixie", Size: 4 << 30}}, func(stage string, _, _ int64) {
		if strings.Contains(stage, "installing essential") {
			cancel(interrupted)
		}
	})
	if !errors.Is(err, interrupted) {
		t.Errorf("error %v, want the interruption", err)
	}
	empty(t, c)
}

func TestKilledBuildIsCleanedUp(t *testing.T) {
	if testing.Short() {
		t.Skip("installs packages")
	}
	requireBuild(t)
	c := openCache(t, t.TempDir())
	p, _ := startEnsure(t, c.dir, "build", "trixie")
	chrooted := func() bool {
		found, _ := filepath.Glob(filepath.Join(c.dir, "tmp-*", "root", "usr", "bin", "dpkg"))
		return len(found) > 0
	}
	wait(t, time.Minute, "the package installation", chrooted)
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	wait(t, 10*time.Second, "the installer's end", func() bool { return !mentioned(c.dir) })
	if removed, err := c.Prune(t.Context(), PruneOptions{}); err != nil || len(removed) != 1 {
		t.Errorf("pruned %+v, %v; want one leftover", removed, err)
	}
	empty(t, c)
}

func wait(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// mentioned says whether a process has dir in its command line.
func mentioned(dir string) bool {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if line, err := os.ReadFile(name); err == nil && strings.Contains(string(line), dir) {
			return true
		}
	}
	return false
}
