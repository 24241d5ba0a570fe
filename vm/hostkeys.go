package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/sleep"
)

// HostKeys waits until the guest has announced its SSH host keys on the
// virtio-serial port that only its host can read, and returns them in
// authorized_keys format. It ends with ctx, or when the guest stops.
func (h *Host) HostKeys(ctx context.Context, name string) ([]string, error) {
	for {
		keys, err := call(ctx, h, fmt.Sprintf("read host keys of domain %q", name), func(c *libvirt.Connect) ([]string, error) {
			return readHostKeys(ctx, c, name)
		})
		if err != nil && ctx.Err() != nil {
			return nil, hint.Wrap(fmt.Errorf("domain %q announced no host keys: %w", name, context.Cause(ctx)),
				"the guest may not have booted: look at its serial log with `ovsactl logs`")
		}
		if err != nil || keys != nil {
			return keys, err
		}
		// The stream ended and the guest runs: it was rebooted, or its port was
		// taken from us.
		if err := sleep.For(ctx, pollInterval); err != nil {
			return nil, err
		}
	}
}

// readHostKeys returns nil keys when the stream ended without an announcement
// and the domain still runs.
func readHostKeys(ctx context.Context, c *libvirt.Connect, name string) ([]string, error) {
	d, s, err := require(c, name)
	if err != nil {
		return nil, err
	}
	defer d.Free()
	if !s.Active {
		return nil, errors.New("the guest does not run")
	}
	stream, err := c.NewStream(libvirt.STREAM_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer stream.Free()
	// A reader that died may still be known as the channel's: replace it.
	if err := d.OpenChannel(AnnouncePort, stream, libvirt.DOMAIN_CHANNEL_FORCE); err != nil {
		return nil, err
	}
	defer stream.Abort()
	var a announcement
	buf := make([]byte, 4096)
	for {
		n, err := recv(ctx, stream, buf)
		if errors.Is(err, io.EOF) {
			active, err := d.IsActive()
			if err == nil && !active {
				err = errors.New("the guest stopped before it announced any")
			}
			return nil, err
		} else if err != nil {
			return nil, err
		}
		if keys, err := a.add(buf[:n]); err != nil || keys != nil {
			return keys, err
		}
	}
}

// recv reads from a stream that does not block, until there is something, the
// stream ends or ctx does. A blocking read could not be interrupted.
func recv(ctx context.Context, stream *libvirt.Stream, buf []byte) (int, error) {
	const blocked = -2
	for wait := time.Millisecond; ; wait = min(2*wait, pollInterval/2) {
		n, err := stream.Recv(buf)
		if err != nil || n != blocked {
			return max(n, 0), err
		}
		if err := sleep.For(ctx, wait); err != nil {
			return 0, err
		}
	}
}
