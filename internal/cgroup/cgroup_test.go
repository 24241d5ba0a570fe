package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
)

// The test's program also is what is limited, and who divides its group.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		first()
	}
	switch os.Getenv("OVSA_TEST_CGROUP") {
	case "use":
		b := make([]byte, 256<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	case "sleep":
		select {}
	case "divide":
		if err := limits(); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func TestFind(t *testing.T) {
	const (
		pure   = "24 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
		other  = "31 23 0:28 / /sys ro - sysfs sysfs ro\n"
		hybrid = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		inside = "24 30 0:23 /system.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		spaces = "24 30 0:23 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n"
	)
	for name, tt := range map[string]struct{ groups, mounts, dir, top string }{
		"as systemd does":     {"0::/system.slice/ovsa.service\n", other + pure, "/sys/fs/cgroup/system.slice/ovsa.service", "/sys/fs/cgroup"},
		"the topmost":         {"0::/\n", pure, "/sys/fs/cgroup", "/sys/fs/cgroup"},
		"beside version 1":    {"4:memory:/x\n0::/y\n", hybrid, "/sys/fs/cgroup/unified/y", "/sys/fs/cgroup/unified"},
		"a part is mounted":   {"0::/system.slice/ovsa.service\n", inside, "/sys/fs/cgroup/ovsa.service", "/sys/fs/cgroup"},
		"another part is":     {"0::/user.slice\n", inside, "", ""},
		"a name that is more": {"0::/system.slices\n", inside, "", ""},
		"spaces":              {"0::/x\n", spaces, "/mnt/my groups/x", "/mnt/my groups"},
		"version 1 alone":     {"4:memory:/x\n", hybrid, "", ""},
		"nothing mounted":     {"0::/x\n", other, "", ""},
		"garbage":             {"0::/x\n", "- cgroup2\n1 2 3 - cgroup2 cgroup2 rw\n", "", ""},
	} {
		g, err := find(tt.groups, tt.mounts)
		if g.dir != tt.dir || g.top != tt.top || (err != nil) != (tt.dir == "") || err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

func TestNoSwap(t *testing.T) {
	top := t.TempDir()
	g := Group{dir: filepath.Join(top, "system.slice", "ovsa.service"), top: top}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	set := func(dir, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want bool) {
		t.Helper()
		if got := g.NoSwap(); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	if (Group{}).NoSwap() {
		t.Error("no group keeps anything away")
	}
	expect("no limit is known", false)
	set(filepath.Dir(g.dir), "max\n")
	set(g.dir, "max\n")
	expect("without limits", false)
	set(g.dir, "4096\n")
	expect("a page may be", false)
	set(g.dir, "0\n")
	expect("its own limit", true)
	set(g.dir, "max\n")
	set(filepath.Dir(g.dir), "0\n")
	expect("that of a group around it", true)
	set(filepath.Dir(g.dir), "max\n")
	set(top, "0\n")
	expect("that of a container", true)
}

func TestKilled(t *testing.T) {
	for events, want := range map[string]bool{
		"low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n": false,
		"low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n": true,
		"": false,
	} {
		if got := killed(events); got != want {
			t.Errorf("%q: %t", events, got)
		}
	}
}

// What nobody has left to this process stays as it is.
func TestNotDelegated(t *testing.T) {
	top := t.TempDir()
	g := Group{dir: filepath.Join(top, "ovsa.service"), top: top}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Divide(g); !errors.Is(err, ErrNotDelegated) || !strings.Contains(hint.Of(err), "Delegate=yes") {
		t.Errorf("%v, %s", err, hint.Of(err))
	}
	if entries, err := os.ReadDir(g.dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// In a group that is delegated programs have limits, are killed for what they use and
// for being left, and are never swapped.
func TestLimits(t *testing.T) {
	need.Root(t)
	self, err := Self()
	if text, _ := os.ReadFile(filepath.Join(self.top, "cgroup.controllers")); err != nil || !strings.Contains(string(text), "memory") {
		if os.Getenv("OVSA_TEST_CGROUP") == "test" {
			t.Fatalf("this kernel has no memory in groups of version 2: %q, %v", text, err)
		}
		inAKernel(t)
		return
	}
	unit := filepath.Join(self.top, "ovsa-test.service")
	if err := os.Mkdir(unit, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { (&Limited{group: unit}).remove() })
	if err := errors.Join(unix.Setxattr(unit, "trusted.delegate", []byte("1"), 0), write(self.top, "cgroup.subtree_control", "+memory")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(unit)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if out, err := program(t, "divide", dir).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := (&Limited{group: filepath.Join(unit, ownName)}).remove(); err != nil {
		t.Error(err)
	}
}

// program is the test's program in a group.
func program(tb testing.TB, as string, in *os.File) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OVSA_TEST_CGROUP="+as)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd()), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// limits is what a service does in its unit.
func limits() error {
	self, err := Self()
	if err != nil {
		return err
	}
	for range 2 { // also one that was divided before
		d, err := Divide(self)
		if err != nil {
			return err
		}
		if now, err := Self(); err != nil || now.dir != filepath.Join(self.dir, ownName) {
			return errors.Join(errors.New("this process is in "+now.dir), err)
		}
		for as, want := range map[string]bool{"use": true, "sleep": false} {
			l, err := d.New("engine", 64<<20)
			if err != nil {
				return err
			}
			p := program(nil, as, l.Dir())
			if err := p.Start(); err != nil {
				return err
			}
			if want {
				p.Wait()
			}
			if killed, err := l.Killed(); err != nil || killed != want {
				return errors.Join(errors.New("wrong about "+as), err)
			}
			if err := l.Close(); err != nil {
				return err
			}
			if !want && p.Wait() == nil {
				return errors.New("what was left goes on")
			}
			if _, err := os.Stat(l.group); !errors.Is(err, os.ErrNotExist) {
				return errors.New("the group is left")
			}
		}
		// One that was left by a service that was killed.
		l, err := d.New("engine", 64<<20)
		if err != nil {
			return err
		}
		p := program(nil, "sleep", l.Dir())
		if err := p.Start(); err != nil {
			return err
		}
		again, err := d.New("engine", 64<<20)
		if err != nil {
			return err
		}
		if p.Wait() == nil {
			return errors.New("what was left goes on")
		}
		if err := again.Close(); err != nil {
			return err
		}
	}
	return nil
}
