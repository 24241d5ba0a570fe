package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/sleep"
)

// ConsoleEscape is the byte, Ctrl-], that ends a console session.
const ConsoleEscape = 0x1d

// Console connects in and out to the guest's serial console until in holds
// ConsoleEscape or ends, the guest stops, or ctx ends. The caller has made its
// terminal raw. Another session on the same console is ended.
func (h *Host) Console(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	if _, err := h.Inspect(ctx, name); err != nil {
		return err // this also makes a lost connection again
	}
	input := make(chan []byte)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go readInput(ctx, in, input)
	// Not call: a session is not to be begun a second time by itself.
	conn, err := h.connection()
	if err != nil {
		return fmt.Errorf("open console of domain %q: %w", name, err)
	}
	_, err = await(ctx, func() (struct{}, error) {
		defer conn.Close()
		return struct{}{}, console(ctx, conn, name, input, out)
	})
	if err != nil {
		return fmt.Errorf("console of domain %q: %w", name, explain(err))
	}
	return nil
}

// readInput sends what is typed, and closes input at the escape byte or the end.
func readInput(ctx context.Context, in io.Reader, input chan<- []byte) {
	defer close(input)
	for {
		buf := make([]byte, 256)
		n, err := in.Read(buf)
		typed, _, escaped := bytes.Cut(buf[:n], []byte{ConsoleEscape})
		if len(typed) > 0 {
			select {
			case input <- typed:
			case <-ctx.Done():
				return
			}
		}
		if escaped || err != nil {
			return
		}
	}
}

func console(ctx context.Context, c *libvirt.Connect, name string, input <-chan []byte, out io.Writer) error {
	d, s, err := require(c, name)
	if err != nil {
		return err
	}
	defer d.Free()
	if !s.Active {
		return errors.New("the guest does not run")
	}
	stream, err := c.NewStream(libvirt.STREAM_NONBLOCK)
	if err != nil {
		return err
	}
	defer stream.Free()
	if err := d.OpenConsole("", stream, libvirt.DOMAIN_CONSOLE_FORCE); err != nil {
		return err
	}
	defer stream.Abort()
	buf := make([]byte, 16<<10)
	for {
		n, err := stream.Recv(buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil // the guest stopped
		case err != nil:
			return err
		case n > 0:
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case typed, ok := <-input:
			if !ok {
				return nil
			}
			if err := send(ctx, stream, typed); err != nil {
				return err
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func send(ctx context.Context, stream *libvirt.Stream, data []byte) error {
	for len(data) > 0 {
		n, err := stream.Send(data)
		if err != nil {
			return err
		}
		if n > 0 {
			data = data[n:]
			continue
		}
		if err := sleep.For(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
