package vm

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/sleep"
)

// Options are what a Host needs besides its URI.
type Options struct {
	// DataDir, on the machine this process runs on, keeps the remembered answer
	// of Accelerator and the lock that makes uploads of one base image wait for
	// each other. Without it nothing is remembered and uploads do not wait.
	DataDir string
	// ShutdownTimeout is how long Stop lets a guest shut down by itself;
	// zero is one minute.
	ShutdownTimeout time.Duration
	// Reconnecting is told, when not nil, that the connection was lost and is
	// made again.
	Reconnecting func(error)
}

// Host is a connection to one libvirt. It is safe for concurrent use. When
// libvirt restarts under it, a call is made once more on a new connection.
type Host struct {
	uri  string
	opts Options

	mu     sync.Mutex
	conn   *libvirt.Connect
	closed bool

	logs     sync.Mutex // held while the pool of serial logs exists
	pools    sync.Mutex // held while a pool is made
	defining sync.Mutex // held while libvirt checks a definition: see validated
}

const (
	keepaliveInterval = 5 // seconds
	keepaliveCount    = 6
	reconnectFor      = 15 * time.Second
	pollInterval      = 200 * time.Millisecond
)

// Open connects to the libvirt at uri, such as "qemu:///system" or
// "qemu+ssh://host/system".
func Open(ctx context.Context, uri string, opts Options) (*Host, error) {
	if err := startEvents(); err != nil {
		return nil, fmt.Errorf("start libvirt event loop: %w", err)
	}
	if opts.ShutdownTimeout == 0 {
		opts.ShutdownTimeout = time.Minute
	}
	h := &Host{uri: uri, opts: opts}
	if _, err := await(ctx, func() (struct{}, error) { return struct{}{}, h.connect() }); err != nil {
		return nil, fmt.Errorf("connect to libvirt at %q: %w", uri, explain(err))
	}
	return h, nil
}

// startEvents runs libvirt's event loop, which is one per process by libvirt's
// own design; the connections cannot do keepalive or streams without it.
var startEvents = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go func() {
		for {
			if err := libvirt.EventRunDefaultImpl(); err != nil {
				time.Sleep(pollInterval)
			}
		}
	}()
	// The loop only looks again at what it waits for when something happens: a
	// timer bounds that.
	_, err := libvirt.EventAddTimeout(int(pollInterval/time.Millisecond), func(int) {})
	return err
})

// Close ends the connection. Calls that still run fail.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.conn == nil {
		return nil
	}
	_, err := h.conn.Close()
	h.conn = nil
	return err
}

// errClosed says that Close was called.
var errClosed = errors.New("connection is closed")

// connect makes a connection; h.mu need not be held.
func (h *Host) connect() error {
	conn, err := libvirt.NewConnect(h.uri)
	if err != nil {
		return err
	}
	// The test driver and others in this process have no server to keep alive.
	if err := conn.SetKeepAlive(keepaliveInterval, keepaliveCount); err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		conn.Close()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		conn.Close()
		return errClosed
	}
	if h.conn != nil {
		h.conn.Close()
	}
	h.conn = conn
	return nil
}

// connection returns the connection with a reference of the caller's own.
func (h *Host) connection() (*libvirt.Connect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return nil, errClosed
	}
	return h.conn, h.conn.Ref()
}

// call runs f, which must be idempotent, with the host's connection. When the
// connection turns out to be dead it connects again and runs f once more. It
// returns when ctx ends even if libvirt has not answered: f then still runs
// and its result is dropped.
func call[T any](ctx context.Context, h *Host, operation string, f func(*libvirt.Connect) (T, error)) (T, error) {
	attempt := func() (value T, lost bool, err error) {
		conn, err := h.connection()
		if err != nil {
			return value, false, err
		}
		value, err = await(ctx, func() (T, error) {
			defer conn.Close()
			return f(conn)
		})
		return value, err != nil && ctx.Err() == nil && isLost(conn, err), err
	}
	value, lost, err := attempt()
	if lost {
		if h.opts.Reconnecting != nil {
			h.opts.Reconnecting(err)
		}
		if again := h.reconnect(ctx); again != nil {
			return value, fmt.Errorf("%s: connection to libvirt lost: %w", operation, explain(again))
		}
		value, _, err = attempt()
	}
	if err != nil {
		return value, fmt.Errorf("%s: %w", operation, explain(err))
	}
	return value, nil
}

// do is call for what has no result.
func do(ctx context.Context, h *Host, operation string, f func(*libvirt.Connect) error) error {
	_, err := call(ctx, h, operation, func(c *libvirt.Connect) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

// reconnect tries for a while: a restarting libvirt needs a moment.
func (h *Host) reconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconnectFor)
	defer cancel()
	for {
		_, err := await(ctx, func() (struct{}, error) { return struct{}{}, h.connect() })
		if err == nil || errors.Is(err, errClosed) {
			return err
		}
		if sleep.For(ctx, pollInterval) != nil {
			return err
		}
	}
}

// await runs f, which cannot be interrupted, and stops waiting when ctx ends.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	if ctx.Err() != nil {
		var zero T
		return zero, context.Cause(ctx)
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

// local says whether uri names the libvirt of the machine this runs on.
func local(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Host == ""
}
