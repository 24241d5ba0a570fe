// Package run executes programs by argument vector. It is the only place that
// starts processes, so it is also where arguments, output limits and
// cancellation are decided once. Secrets never go into Args or Env: hand them
// over in Stdin or in Files.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Cmd is one program to run.
type Cmd struct {
	Path        string   // looked up in PATH when it has no slash
	Args        []string // without the program's name
	Dir         string
	Env         []string // added to PATH, HOME, LANG=C.UTF-8 and TMPDIR of this process, and wins
	Stdin       io.Reader
	Stdout      io.Writer  // nil: kept for Output, else dropped
	Stderr      io.Writer  // nil: only its tail is kept, for the error
	Files       []*os.File // become descriptors 3, 4, ... of the program
	SysProcAttr *syscall.SysProcAttr
}

// Error is a program that ran and failed, or could not be run.
type Error struct {
	Path   string
	Code   int            // exit status, -1 when it did not exit by itself
	Signal syscall.Signal // that ended it; 0 for none
	Stderr string         // the end of what it said, at most 2 KiB
	Err    error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("run %s: %v", e.Path, e.Err)
	if e.Stderr != "" {
		msg += ": " + e.Stderr
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the program to its end. When ctx ends it gets SIGTERM, and SIGKILL
// five seconds later. Any failure is an *Error.
func (c Cmd) Run(ctx context.Context) error {
	cmd, tail := c.prepare(ctx)
	return c.wrap(ctx, cmd.Run(), tail)
}

// Output is Run that returns what the program wrote to stdout, at most 16 MiB.
func (c Cmd) Output(ctx context.Context) ([]byte, error) {
	var out capped
	out.limit = 16 << 20
	c.Stdout = &out
	if err := c.Run(ctx); err != nil {
		return nil, err
	}
	if out.over {
		return nil, &Error{Path: c.Path, Code: 0, Err: errors.New("output over 16 MiB")}
	}
	return out.Bytes(), nil
}

// Find looks for a program in the directories of a list such as PATH.
func Find(name, list string) (path string, found bool) {
	for _, dir := range filepath.SplitList(list) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// Process is a program that runs beside this one.
type Process struct {
	cmd  *exec.Cmd
	wait func() error
}

// Start starts the program and returns at once. The caller must call Wait.
func (c Cmd) Start(ctx context.Context) (*Process, error) {
	cmd, tail := c.prepare(ctx)
	if err := cmd.Start(); err != nil {
		return nil, c.wrap(ctx, err, tail)
	}
	return &Process{cmd: cmd, wait: func() error { return c.wrap(ctx, cmd.Wait(), tail) }}, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends sig; a process that has ended is not an error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait waits for the end and returns what Run would.
func (p *Process) Wait() error { return p.wait() }

func (c Cmd) prepare(ctx context.Context) (*exec.Cmd, *tail) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdin, c.Stdout, c.Stderr
	cmd.ExtraFiles, cmd.SysProcAttr = c.Files, c.SysProcAttr
	cmd.Env = []string{"LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TERM", "http_proxy", "https_proxy", "no_proxy"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, c.Env...)
	t := &tail{}
	if cmd.Stderr == nil {
		cmd.Stderr = t
	}
	return cmd, t
}

func (c Cmd) wrap(ctx context.Context, err error, t *tail) error {
	if err == nil {
		return nil
	}
	e := &Error{Path: c.Path, Code: -1, Stderr: t.String(), Err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.Code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
		}
	}
	if ctx.Err() != nil {
		e.Err = context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return hint.Wrap(e, "install the program %q, or see `ovsactl host check`", c.Path)
	}
	return e
}

// tail keeps the last bytes written to it.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 2048; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	return strings.Map(printable, strings.TrimSpace(string(t.buf)))
}

// printable keeps a program's control characters away from the terminal.
func printable(r rune) rune {
	if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
		return r
	}
	return '\uFFFD'
}

type capped struct {
	bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		c.over = true
		return len(p), nil
	}
	return c.Buffer.Write(p)
}
