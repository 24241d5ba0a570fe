package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

const (
	keepaliveEvery = 15 * time.Second
	keepaliveWait  = 45 * time.Second
	stopWait       = 2 * time.Second // for a command to end after SIGTERM
)

// Conn is one connection to a guest, for use by many goroutines.
type Conn struct {
	client *ssh.Client
	addr   string
	done   chan struct{} // closed when the connection has ended

	once  sync.Once // opens files
	files *sftp.Client
	err   error
}

func newConn(client *ssh.Client, addr string) *Conn {
	c := &Conn{client: client, addr: addr, done: make(chan struct{})}
	go func() {
		client.Wait()
		close(c.done)
	}()
	go c.keepalive(keepaliveEvery, keepaliveWait)
	return c
}

// Close ends the connection and what still runs over it. A second Close is nil.
func (c *Conn) Close() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	if err := c.client.Close(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("close ssh connection to %s: %w", c.addr, err)
	}
	return nil
}

// keepalive closes a connection whose other end does not answer any more, so
// that no Run waits for a guest that is gone.
func (c *Conn) keepalive(every, patience time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ticker.C:
		}
		answer := make(chan error, 1)
		go func() {
			_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		select {
		case <-c.done:
			return
		case err := <-answer:
			if err == nil {
				continue
			}
		case <-time.After(patience):
		}
		c.client.Close()
		return
	}
}

// Run runs argv in the guest as the connection's user, without a terminal, and
// copies its output. The guest's shell sees every argument exactly as it is
// here. A command that fails is an *[ExitError]. When ctx ends the command gets
// SIGTERM and Run returns the cause, whether the command follows or not; the
// connection stays. Nothing is written to stdout and stderr after Run.
func (c *Conn) Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	line, err := commandLine(argv)
	if err != nil {
		return fmt.Errorf("run in guest: %w", err)
	}
	session, err := c.client.NewSession()
	if err != nil {
		return fmt.Errorf("run %q in guest: %w", argv[0], c.cause(ctx, err))
	}
	defer session.Close()
	out, errs := newGate(stdout), newGate(stderr)
	defer out.shut()
	defer errs.shut()
	session.Stdout, session.Stderr = out, errs
	if err := feed(session, stdin); err != nil {
		return fmt.Errorf("run %q in guest: %w", argv[0], err)
	}
	if err := session.Start(line); err != nil {
		return fmt.Errorf("run %q in guest: %w", argv[0], c.cause(ctx, err))
	}
	return c.wait(ctx, session, argv[0])
}

// feed copies stdin beside the session: unlike with session.Stdin, the session
// ends with its command and not with a terminal that nobody types at.
func feed(session *ssh.Session, stdin io.Reader) error {
	if stdin == nil {
		return nil
	}
	pipe, err := session.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		defer pipe.Close()
		io.Copy(pipe, stdin) // a command may end without reading it all
	}()
	return nil
}

func (c *Conn) wait(ctx context.Context, session *ssh.Session, name string) error {
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	select {
	case err := <-ended:
		return c.exitError(ctx, name, err)
	case <-ctx.Done():
	}
	session.Signal(ssh.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopWait): // the caller closes the session
	}
	return fmt.Errorf("run %q in guest: %w", name, context.Cause(ctx))
}

// gate is a writer that can be shut: what comes later is dropped.
type gate struct {
	mu sync.Mutex
	w  io.Writer
}

func newGate(w io.Writer) *gate {
	if w == nil {
		w = io.Discard
	}
	return &gate{w: w}
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.w.Write(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w = io.Discard
}

func (c *Conn) exitError(ctx context.Context, name string, err error) error {
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &ExitError{Command: name, Code: exit.ExitStatus(), Signal: exit.Signal()}
	case errors.As(err, &missing):
		return fmt.Errorf("run %q in guest: connection to %s lost", name, c.addr)
	}
	return fmt.Errorf("run %q in guest: %w", name, c.cause(ctx, err))
}

// cause prefers the reason why ctx ended to what that did to the connection.
func (c *Conn) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-c.done:
		return fmt.Errorf("connection to %s lost: %w", c.addr, err)
	default:
		return err
	}
}

// sftp opens the file channel on first use.
func (c *Conn) sftp() (*sftp.Client, error) {
	c.once.Do(func() {
		c.files, c.err = sftp.NewClient(c.client, sftp.UseConcurrentWrites(true))
		if c.err != nil {
			c.err = fmt.Errorf("open sftp: %w", c.err)
		}
	})
	return c.files, c.err
}
