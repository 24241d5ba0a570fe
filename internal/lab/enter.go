package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Command is a command to run inside a lab.
type Command struct {
	Argv           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Inner is the command line, after the program's own name, that makes this
	// program call Exec with the arguments that follow it.
	Inner []string
	// Shell makes the command the terminal's foreground process group, as a shell
	// with job control needs it: it cannot give the terminal back to a group
	// outside of the lab's process namespace. Run does that.
	Shell bool
}

// Run runs c inside l, in the same working directory, with this process's
// environment, terminal and signals, and returns its exit code: 128 + the signal
// when one killed it. The command dies with this process.
func Run(ctx context.Context, l Lab, c Command) (int, error) {
	if !l.Ready {
		return 0, hint.Wrap(fmt.Errorf("lab %q is not up yet", l.Name), "wait for the `ovsactl lab up` that starts it, or run it again")
	}
	wd, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("working directory: %w", err)
	}
	cmd := run.Cmd{
		Path: "/proc/self/exe", Args: append(append([]string{}, c.Inner...), c.Argv...), Dir: wd,
		Env: environment(l), Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr,
	}
	if c.Shell {
		if tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			defer tty.Close()
			defer takeTerminal(tty)
			cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: int(tty.Fd())}
		}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	started := make(chan *run.Process, 1)
	ended := make(chan error, 1)
	go func() { ended <- startInside(context.WithoutCancel(ctx), l, cmd, started) }()
	var p *run.Process
	select {
	case p = <-started:
	case err := <-ended:
		return exitCode(err)
	}
	for {
		select {
		case sig := <-signals:
			if !fromTerminal(sig) {
				p.Signal(sig)
			}
		case err := <-ended:
			return exitCode(err)
		}
	}
}

// takeTerminal makes this process's group the foreground one again.
func takeTerminal(tty *os.File) {
	signal.Ignore(syscall.SIGTTOU) // what a background process gets for that
	defer signal.Reset(syscall.SIGTTOU)
	unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, unix.Getpgrp())
}

// fromTerminal tells a signal that the terminal sends to the command as well:
// passing it on would deliver it twice.
func fromTerminal(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && front == unix.Getpgrp()
}

func exitCode(err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	var failed *run.Error
	if !errors.As(err, &failed) {
		return 0, err
	}
	if failed.Signal != 0 {
		return 128 + int(failed.Signal), nil
	}
	if failed.Code > 0 {
		return failed.Code, nil
	}
	return 0, err
}

// startInside starts cmd in l's namespaces and waits for it. It gives up its
// thread: the thread joins the namespaces, which Go threads can as long as
// nobody shares the thread's file system context, its child inherits them, and
// it ends with the goroutine, never to run other Go code. The main thread cannot
// end before the program does, and what /proc/self shows is the main thread's:
// it is spared.
func startInside(ctx context.Context, l Lab, cmd run.Cmd, started chan<- *run.Process) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		ended := make(chan error, 1)
		go func() { ended <- startInside(ctx, l, cmd, started) }()
		return <-ended
	}
	if err := join(l); err != nil {
		return fmt.Errorf("enter lab %q: %w", l.Name, err)
	}
	p, err := cmd.Start(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return hint.Wrap(err, "is the directory %q one that the lab has for itself? Start from another one", cmd.Dir)
	}
	if err != nil {
		return err
	}
	started <- p
	return p.Wait()
}

func join(l Lab) error {
	kinds := []struct {
		file string
		flag int
	}{{"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"mnt", unix.CLONE_NEWNS}}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, k := range kinds {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", l.PID, k.file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	// The ids are held by descriptors now: is the process still the lab's?
	if start, err := startTime(l.PID); err != nil || start != l.Start {
		return none(l.Name)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, k := range kinds {
		if err := unix.Setns(fds[i], k.flag); err != nil {
			return fmt.Errorf("join %s namespace: %w", k.file, err)
		}
	}
	return nil
}

// environment is the caller's own, with the lab's TPM, and this program first
// in PATH, so that `ovsactl` inside is the one outside.
func environment(l Lab) []string {
	env := append(os.Environ(), "OVSACTL_TPM="+TPMAddress, "OVSACTL_LAB="+l.Name)
	if exe, err := os.Executable(); err == nil {
		env = append(env, "PATH="+filepath.Dir(exe)+":"+os.Getenv("PATH"))
	}
	return env
}

// Exec is the inside of Run: it ties the process's life to that of Run's and
// becomes argv. It returns only on failure.
func Exec(argv, env []string) error {
	runtime.LockOSThread() // the tie belongs to the thread that calls exec
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie to parent: %w", err)
	}
	if os.Getppid() != 0 { // the parent is outside, so a number means that it died
		return errors.New("this verb is for `ovsactl lab run` alone")
	}
	path, err := lookPath(argv[0], os.Getenv("PATH"))
	if err != nil {
		return err
	}
	return fmt.Errorf("run %q: %w", argv[0], unix.Exec(path, argv, env))
}

func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if found, ok := run.Find(name, path); ok {
		return found, nil
	}
	return "", fmt.Errorf("run %q: no such program in PATH", name)
}
