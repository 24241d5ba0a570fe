// Package lab makes a second host inside this machine: own mounts, network and
// processes, own libvirtd, and a software TPM in the place of the host's. What
// runs in it cannot change the machine outside, and all of it goes when its
// first process dies, however that happens: no namespace has a name, no mount
// is visible outside, nothing is daemonised.
//
//	Up     starts the holder, which is process 1 of the lab     (lab.go)
//	Hold   is that process: it reaps, and starts Serve          (hold.go)
//	Serve  mounts, starts the daemons and keeps them running    (serve.go)
//	Run    runs a command inside                                (enter.go)
//	Down   kills process 1
//
// The machine's image cache is the one thing both sides share.
package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Root is where labs are registered, outside of them.
const Root = "/run/ovsactl/labs"

// ErrNone says that no lab of that name runs.
var ErrNone = errors.New("no such lab")

// Lab is one lab, as it is registered.
type Lab struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`   // of its first process, seen from outside
	Start   uint64    `json:"start"` // that process's start time, in clock ticks since boot
	Ready   bool      `json:"ready"`
	DataDir string    `json:"data_dir"`
	Since   time.Time `json:"since"`
}

// Options describe a lab to start.
type Options struct {
	Name    string
	DataDir string // inside; its cache/ is the machine's own
	// Holder is the command line, after the program's own name, that makes this
	// program call Hold.
	Holder []string
	// Step, if not nil, is told what is being done.
	Step func(string)
}

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

func dir(name string) string { return filepath.Join(Root, name) }

// LogPath is the log of the lab's daemons.
func LogPath(name string) string { return filepath.Join(dir(name), "log") }

// CheckName says what is wrong with a lab's name.
func CheckName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("lab name %q: use at most 32 of a-z, 0-9, '-' and '_', a letter or digit first", name)
	}
	return nil
}

// Find returns the running lab called name, or ErrNone. The files of one that
// died are not a lab.
func Find(name string) (Lab, error) {
	if err := CheckName(name); err != nil {
		return Lab{}, err
	}
	data, err := os.ReadFile(filepath.Join(dir(name), "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Lab{}, none(name)
	}
	if err != nil {
		return Lab{}, fmt.Errorf("read lab %q: %w", name, err)
	}
	var l Lab
	if err := json.Unmarshal(data, &l); err != nil {
		return Lab{}, fmt.Errorf("read lab %q: %w", name, err)
	}
	if start, err := startTime(l.PID); err != nil || start != l.Start {
		return Lab{}, none(name)
	}
	return l, nil
}

func none(name string) error {
	return hint.Wrap(fmt.Errorf("%w: %q", ErrNone, name), "start it: ovsactl lab up --name %s", name)
}

// List returns the labs that run, by name.
func List() ([]Lab, error) {
	entries, err := os.ReadDir(Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var labs []Lab
	for _, e := range entries {
		l, err := Find(e.Name())
		if errors.Is(err, ErrNone) || !e.IsDir() {
			continue
		}
		if err != nil {
			return nil, err
		}
		labs = append(labs, l)
	}
	return labs, nil
}

// Up starts a lab and returns when its libvirt answers. One that runs already
// is returned as it is, with false. When it fails, or ctx ends, nothing is left
// but the log.
func Up(ctx context.Context, o Options) (Lab, bool, error) {
	if err := CheckName(o.Name); err != nil {
		return Lab{}, false, err
	}
	if os.Geteuid() != 0 {
		return Lab{}, false, hint.Wrap(errors.New("a lab needs root: it makes namespaces and mounts"), "run it with sudo")
	}
	if err := os.MkdirAll(dir(o.Name), 0o700); err != nil {
		return Lab{}, false, fmt.Errorf("register lab: %w", err)
	}
	held, err := lock.Wait(ctx, filepath.Join(Root, "lock"), fmt.Sprintf("pid %d (ovsactl lab up)", os.Getpid()), nil)
	if err != nil {
		return Lab{}, false, err
	}
	defer held.Release()
	l, err := Find(o.Name)
	if err == nil && l.Ready {
		return l, false, nil
	}
	if err == nil { // its `up` was killed half-way
		kill(l)
	}
	// The cache exists outside before the lab covers the data directory.
	if err := os.MkdirAll(filepath.Join(o.DataDir, "cache"), 0o755); err != nil {
		return Lab{}, false, fmt.Errorf("make image cache: %w", err)
	}
	l, err = start(ctx, o)
	return l, err == nil, err
}

func start(ctx context.Context, o Options) (Lab, error) {
	log, err := os.Create(LogPath(o.Name))
	if err != nil {
		return Lab{}, fmt.Errorf("lab log: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return Lab{}, fmt.Errorf("start lab: %w", err)
	}
	defer r.Close()
	// The holder outlives this process and does not hear its terminal.
	holder, err := run.Cmd{
		Path: "/proc/self/exe", Args: o.Holder, Dir: "/",
		Stdout: log, Stderr: log, Files: []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
			Setsid:     true,
		},
	}.Start(context.WithoutCancel(ctx))
	w.Close()
	if err != nil {
		return Lab{}, hint.Wrap(fmt.Errorf("start lab: %w", err), "a lab needs the right to make mount, network and process namespaces")
	}
	l := Lab{Name: o.Name, PID: holder.PID(), DataDir: o.DataDir, Since: time.Now().UTC().Truncate(time.Second)}
	if l.Start, err = startTime(l.PID); err == nil {
		err = l.save()
	}
	if err == nil {
		err = follow(ctx, r, o.Step)
	}
	if err != nil {
		holder.Signal(syscall.SIGKILL)
		holder.Wait()
		os.Remove(filepath.Join(dir(o.Name), "lab.json"))
		return Lab{}, withLog(err, o.Name)
	}
	go holder.Wait() // a caller that outlives the lab keeps no zombie of it
	l.Ready = true
	return l, l.save()
}

func (l Lab) save() error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir(l.Name), "lab.json"), append(data, '\n'), 0o600)
}

// report is one line from Serve to Up.
type report struct {
	Step  string `json:"step,omitempty"`
	Ready bool   `json:"ready,omitempty"`
	Err   string `json:"err,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// follow reads reports until the lab is ready, fails, or ctx ends.
func follow(ctx context.Context, r *os.File, step func(string)) error {
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	last := "start"
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var rep report
		if err := json.Unmarshal(lines.Bytes(), &rep); err != nil {
			return fmt.Errorf("start lab: %w", err)
		}
		switch {
		case rep.Ready:
			return nil
		case rep.Err != "":
			err := fmt.Errorf("start lab: %s", rep.Err)
			if rep.Hint != "" {
				return hint.Wrap(err, "%s", rep.Hint)
			}
			return err
		}
		last = rep.Step
		if step != nil {
			step(rep.Step)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start lab: %s: %w", last, context.Cause(ctx))
	}
	return fmt.Errorf("start lab: its first process died in step %q", last)
}

// withLog adds the end of the lab's log to err.
func withLog(err error, name string) error {
	h := hint.Of(err)
	if h == "" {
		h = "the whole log: " + LogPath(name)
	}
	if t := tail(LogPath(name), 12); t != "" {
		err = fmt.Errorf("%w; the end of its log:\n%s", err, t)
	}
	return hint.Wrap(err, "%s", h)
}

func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Down ends a lab with everything in it, and returns when it is gone. It
// succeeds when there is none.
func Down(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	l, err := Find(name)
	if err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	if err == nil {
		if err := kill(l); err != nil {
			return fmt.Errorf("end lab %q: %w", name, err)
		}
	}
	if err := os.RemoveAll(dir(name)); err != nil {
		return fmt.Errorf("end lab %q: %w", name, err)
	}
	return nil
}

// kill ends the lab's process 1. The kernel then kills all others, and the
// process counts as dead only after them.
func kill(l Lab) error {
	fd, err := unix.PidfdOpen(l.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if start, err := startTime(l.PID); err != nil || start != l.Start {
		return nil // the id belongs to somebody else by now
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return errors.New("its processes do not die")
}
