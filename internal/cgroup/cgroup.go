// Package cgroup limits what programs may use, by control groups of their own
// (cgroups(7), version 2) inside of the one that a service manager has given this
// process.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Group is a control group.
type Group struct {
	dir string
	top string // that is seen here of those that it is in
}

// Errors of what this process may not do.
var (
	ErrNone         = errors.New("there are no control groups of version 2 here")
	ErrNotDelegated = errors.New("the control group of this process is not its own to divide")
)

// Self is the group that this process is in.
func Self() (Group, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Group{}, fmt.Errorf("find the control group: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}, fmt.Errorf("find the control group: %w", err)
	}
	g, err := find(string(groups), string(mounts))
	if err != nil {
		return g, fmt.Errorf("find the control group: %w", err)
	}
	return g, nil
}

// find finds a process's group by its /proc/PID/cgroup and mountinfo.
func find(groups, mounts string) (Group, error) {
	path := ""
	for line := range strings.Lines(groups) {
		if rest, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); is {
			path = rest
		}
	}
	if path == "" {
		return Group{}, ErrNone
	}
	for line := range strings.Lines(mounts) {
		// ID PARENT DEVICE ROOT POINT OPTIONS [MORE...] - TYPE SOURCE OPTIONS
		before, after, ok := strings.Cut(line, " - ")
		words, types := strings.Fields(before), strings.Fields(after)
		if !ok || len(words) < 6 || len(types) < 1 || types[0] != "cgroup2" {
			continue
		}
		root, point := unescape(words[3]), unescape(words[4])
		if in, is := strings.CutPrefix(path+"/", strings.TrimSuffix(root, "/")+"/"); is {
			return Group{dir: filepath.Join(point, in), top: filepath.Clean(point)}, nil
		}
	}
	return Group{}, ErrNone
}

// unescape undoes what mountinfo does to spaces and the like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Dir is the group's directory.
func (g Group) Dir() string { return g.dir }

// NoSwap says whether nothing of what is in the group is swapped, by a limit of its own
// or of a group that it is in.
func (g Group) NoSwap() bool {
	if g.dir == "" {
		return false
	}
	for dir := g.dir; ; dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(dir, "memory.swap.max")); err == nil && strings.TrimSpace(string(text)) == "0" {
			return true
		}
		if dir == g.top {
			return false
		}
	}
}

// delegated says whether a service manager has left a directory to whoever runs in it:
// systemd notes that as an attribute.
func delegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// ownName is the group of this process, where it has divided the one it was given.
const ownName = "runtime"

// Divided is a group that has groups for programs, and one for this process. Nothing of
// either is swapped.
type Divided struct{ dir string }

// Divide makes room for other groups in the one of this process, which goes into one of
// its own: a group that is divided has no processes. It has to be delegated, or be in
// one that is.
func Divide(self Group) (Divided, error) {
	fail := func(err error) (Divided, error) {
		return Divided{}, fmt.Errorf("divide the control group: %w", err)
	}
	d, own := Divided{self.dir}, filepath.Join(self.dir, ownName)
	switch {
	case delegated(self.dir):
		if err := makeGroup(own); err != nil {
			return fail(err)
		}
		if err := write(own, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			return fail(err)
		}
	case self.dir != self.top && delegated(filepath.Dir(self.dir)): // with DelegateSubgroup=
		d, own = Divided{filepath.Dir(self.dir)}, self.dir
	default:
		return fail(hint.Wrap(ErrNotDelegated, "run it as a service whose unit has Delegate=yes"))
	}
	controllers, err := os.ReadFile(filepath.Join(d.dir, "cgroup.controllers"))
	if err != nil {
		return fail(err)
	}
	if !strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " memory ") {
		return fail(hint.Wrap(errors.New("memory is not limited in groups of version 2 here"), "start the kernel without cgroup_disable=memory, and with systemd.unified_cgroup_hierarchy=1"))
	}
	if err := write(d.dir, "cgroup.subtree_control", "+memory"); err != nil {
		return fail(err)
	}
	if err := noSwap(own); err != nil {
		return fail(err)
	}
	return d, nil
}

// noSwap keeps a group's memory from being swapped. Where the kernel swaps nothing
// there is nothing to keep it from.
func noSwap(dir string) error {
	err := write(dir, "memory.swap.max", "0")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Limited is a group whose memory has a limit.
type Limited struct {
	group string
	dir   *os.File
}

// New makes a group in which programs use at most so many bytes of memory, 0 for any,
// or are killed together. One of that name that was left is gone, with what was in it.
func (d Divided) New(name string, memory int64) (_ *Limited, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make control group %q: %w", name, err)
		}
	}()
	l := &Limited{group: filepath.Join(d.dir, name)}
	if err := l.remove(); err != nil {
		return nil, err
	}
	if err := makeGroup(l.group); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.remove()
		}
	}()
	most := "max"
	if memory > 0 {
		most = strconv.FormatInt(memory, 10)
	}
	if err := errors.Join(write(l.group, "memory.max", most), write(l.group, "memory.oom.group", "1"), noSwap(l.group)); err != nil {
		return nil, err
	}
	l.dir, err = os.Open(l.group)
	return l, err
}

// Dir is the group's directory, open: where a process is to begin (clone3(2),
// CLONE_INTO_CGROUP).
func (l *Limited) Dir() *os.File { return l.dir }

// Killed says whether something in it was killed for its memory.
func (l *Limited) Killed() (bool, error) {
	events, err := os.ReadFile(filepath.Join(l.group, "memory.events"))
	if err != nil {
		return false, fmt.Errorf("read the control group's events: %w", err)
	}
	return killed(string(events)), nil
}

// killed reads memory.events.
func killed(events string) bool {
	for line := range strings.Lines(events) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "oom_kill" && words[1] != "0" {
			return true
		}
	}
	return false
}

// Close kills what is left in the group, and removes it.
func (l *Limited) Close() error {
	l.dir.Close()
	if err := l.remove(); err != nil {
		return fmt.Errorf("remove control group: %w", err)
	}
	return nil
}

// gone is how long what was killed may take to be gone.
const gone = 10 * time.Second

func (l *Limited) remove() error {
	for end := time.Now().Add(gone); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(l.group)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(end):
			return err
		}
		if err := write(l.group, "cgroup.kill", "1"); err != nil {
			return err
		}
	}
}

func makeGroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// write writes a file of a group, which is never made: it is the kernel's.
func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return err
	}
	return nil
}
