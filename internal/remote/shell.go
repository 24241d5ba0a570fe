package remote

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Terminal is the local side of an interactive session. The caller puts a real
// terminal into raw mode and takes it out again.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
	Type     string // TERM of the terminal, "" for "dumb"
	Size     Size
	Resized  <-chan Size // new sizes while the session lasts; may be nil
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height int }

// Shell gives the user a terminal in the guest: the login shell, or argv when
// there is one. It returns when that ends, with an *[ExitError] when it ends
// otherwise than with 0.
func (c *Conn) Shell(ctx context.Context, t Terminal, argv ...string) error {
	session, err := c.client.NewSession()
	if err != nil {
		return fmt.Errorf("open shell in guest: %w", c.cause(ctx, err))
	}
	defer session.Close()
	out, errs := newGate(t.Out), newGate(t.Err)
	defer out.shut()
	defer errs.shut()
	session.Stdout, session.Stderr = out, errs
	if err := feed(session, t.In); err != nil {
		return fmt.Errorf("open shell in guest: %w", err)
	}
	if t.Type == "" {
		t.Type = "dumb"
	}
	if err := session.RequestPty(t.Type, t.Size.Height, t.Size.Width, ssh.TerminalModes{ssh.ECHO: 1}); err != nil {
		return fmt.Errorf("open terminal in guest: %w", c.cause(ctx, err))
	}
	name := "shell"
	if len(argv) == 0 {
		err = session.Shell()
	} else {
		name = argv[0]
		var line string
		if line, err = commandLine(argv); err == nil {
			err = session.Start(line)
		}
	}
	if err != nil {
		return fmt.Errorf("run %q in guest: %w", name, c.cause(ctx, err))
	}
	over := make(chan struct{})
	defer close(over)
	go follow(session, t.Resized, over)
	return c.wait(ctx, session, name)
}

func follow(session *ssh.Session, sizes <-chan Size, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			session.WindowChange(s.Height, s.Width) // a lost one only looks odd
		}
	}
}
