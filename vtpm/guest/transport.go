package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
)

const (
	headerSize  = 10
	maxResponse = 4096
	pollSlice   = 100 * time.Millisecond
	maxRetries  = 20
)

// Response codes that ask for the same command again.
const (
	rcYielded = 0x908
	rcTesting = 0x90a
	rcRetry   = 0x922
)

// TPM is a TPM device, or a program's on a socket. It serves one command at
// a time. When the context it was opened with ends, a pending command fails and
// so does every later one.
type TPM struct {
	ctx    context.Context
	fd     int
	broken error
}

// Open opens a TPM: a device as "/dev/tpmrm0", or a socket as "unix:PATH"; or either
// as the TSS spells them, "device:PATH", "swtpm:path=PATH" and "swtpm:port=N".
func Open(ctx context.Context, path string) (*TPM, error) {
	fd, err := open(path)
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, hint.Wrap(fmt.Errorf("open TPM %q: %w", path, err), "nothing listens there: start the swtpm that should, or name another TPM")
	}
	if err != nil {
		return nil, fmt.Errorf("open TPM %q: %w", path, err)
	}
	return &TPM{ctx: ctx, fd: fd}, nil
}

func open(path string) (int, error) {
	at, err := parseAddress(path)
	if err != nil {
		return -1, err
	}
	if at.socket == nil {
		// Not blocking: the kernel then works on a command while we poll, so that
		// a context can end the wait.
		return unix.Open(at.device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	fd, err := unix.Socket(at.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, at.socket)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Close closes the TPM; a resource manager then drops what is left in it.
func (t *TPM) Close() error {
	t.broken = os.ErrClosed
	return unix.Close(t.fd)
}

// Send implements transport.TPM. It repeats a command that the TPM is too busy for.
func (t *TPM) Send(command []byte) ([]byte, error) {
	for try := 0; ; try++ {
		rsp, err := t.exchange(command)
		if err != nil {
			return nil, err
		}
		code := binary.BigEndian.Uint32(rsp[6:])
		if try == maxRetries || (code != rcRetry && code != rcYielded && code != rcTesting) {
			return rsp, nil
		}
		select {
		case <-t.ctx.Done():
		case <-time.After(time.Duration(try+1) * 10 * time.Millisecond):
		}
	}
}

func (t *TPM) exchange(command []byte) ([]byte, error) {
	if t.broken != nil {
		return nil, t.broken
	}
	rsp, err := t.roundTrip(command)
	if err != nil {
		t.broken = fmt.Errorf("talk to the TPM: %w", err)
		return nil, t.broken
	}
	return rsp, nil
}

func (t *TPM) roundTrip(command []byte) ([]byte, error) {
	if err := t.wait(unix.POLLOUT); err != nil {
		return nil, err
	}
	n, err := unix.Write(t.fd, command)
	if err != nil {
		return nil, err
	}
	if n != len(command) {
		return nil, fmt.Errorf("%d bytes of a command of %d were taken", n, len(command))
	}
	buf := make([]byte, maxResponse)
	for have := 0; ; {
		if err := t.wait(unix.POLLIN); err != nil {
			return nil, err
		}
		n, err := unix.Read(t.fd, buf[have:])
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errors.New("it ended before its answer did")
		}
		have += n
		if have < headerSize {
			continue
		}
		size := binary.BigEndian.Uint32(buf[2:])
		if size < headerSize || size > maxResponse || int(size) < have {
			return nil, fmt.Errorf("an answer of %d bytes says that it has %d", have, size)
		}
		if have == int(size) {
			return buf[:have], nil
		}
	}
}

// wait waits until the descriptor is ready for events or the context ends.
func (t *TPM) wait(events int16) error {
	fds := []unix.PollFd{{Fd: int32(t.fd), Events: events}}
	for {
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		n, err := unix.Poll(fds, int(pollSlice.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}
