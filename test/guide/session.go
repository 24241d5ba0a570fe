package guide

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
)

// session is a shell at one place. Like its reader's it lasts from block to block, with
// its variables and its directory.
type session struct {
	process *run.Process
	in      *os.File
	out     *os.File
	rest    []byte // read, and of no block yet
	mark    string // a line that nothing else says
	forget  func() bool
}

// begin starts a shell by a command.
func begin(ctx context.Context, argv, env []string) (*session, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), in.Close())
	}
	c := run.Cmd{Path: argv[0], Args: argv[1:], Env: env, Stdin: stdin, Stdout: stdout, Stderr: stdout}
	p, err := c.Start(ctx)
	err = errors.Join(err, stdin.Close(), stdout.Close())
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	s := &session{process: p, in: in, out: out, mark: "== " + rand.Text() + "\n"}
	// Who waits for what a command says does not wait when all of it is to end: what the
	// command has started may have the pipe open.
	s.forget = context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Now()) })
	// A command that fails ends the shell, and so the session. No command reads what
	// the shell is told.
	_, err = io.WriteString(in, "set -euo pipefail; exec 2>&1\n")
	return s, err
}

// do runs commands, and returns what they say, which log has while they say it.
func (s *session) do(commands string, log io.Writer) (string, error) {
	script := "{ :\n" + commands + "} </dev/null\nprintf '%s' '" + s.mark + "'\n"
	if _, err := io.WriteString(s.in, script); err != nil {
		return "", err
	}
	buf, logged := make([]byte, 64<<10), 0
	for {
		said, after, found := bytes.Cut(s.rest, []byte(s.mark))
		sure := len(said)
		if !found { // what may be the beginning of the mark waits
			sure = max(logged, len(s.rest)-len(s.mark)+1)
		}
		fmt.Fprintf(log, "%s", said[logged:sure])
		logged = sure
		if found {
			s.rest = bytes.Clone(after)
			return string(said), nil
		}
		n, err := s.out.Read(buf)
		s.rest = append(s.rest, buf[:n]...)
		if err == nil {
			continue
		}
		fmt.Fprintf(log, "%s", s.rest[logged:])
		if err := s.end(); err != nil {
			return string(s.rest), fmt.Errorf("the commands failed: %w", err)
		}
		return string(s.rest), errors.New("the commands ended the shell")
	}
}

// end ends the shell, and says how it ended.
func (s *session) end() error {
	s.forget()
	return errors.Join(s.in.Close(), s.process.Wait(), s.out.Close())
}

// refused are commands of which the last is to fail, and nothing else. One that cannot be
// run is not refused.
func refused(commands string) string {
	lines := strings.Split(strings.TrimRight(commands, "\n"), "\n")
	last := len(lines) - 1
	for last > 0 && strings.HasSuffix(lines[last-1], `\`) {
		last--
	}
	return strings.Join(lines[:last], "\n") + "\nif " + strings.Join(lines[last:], "\n") + "\n" +
		"then echo 'this was to be refused' >&2; exit 1; else case $? in 126 | 127) exit 1 ;; esac; fi\n"
}
