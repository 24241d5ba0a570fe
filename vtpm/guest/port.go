package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// DefaultPort is the virtio-serial port behind which the host's attestation
// service answers for this guest.
const DefaultPort = "/dev/virtio-ports/org.ovsactl.attest.0"

// Errors of asking the host: all are ErrHost.
var (
	ErrHost        = errors.New("ask the host")
	ErrNoHost      = errors.New("there is no port to the host's attestation service")
	ErrHostRefused = errors.New("the host's attestation service does not quote")
)

// Port leads to the host: a virtio-serial port by its path, or what plays one as
// "unix:PATH".
type Port string

const (
	hostTimeout = 30 * time.Second // for an answer, when the context sets no earlier end
	hostPause   = 200 * time.Millisecond
	maxStale    = 64 // answers to somebody before, who did not wait for them
)

// Attest asks the host to vouch for a proof with a fresh quote of its TPM. A host
// that is starting, or answering another program of this guest, is waited for,
// half a minute at most. Errors are ErrNoHost, ErrHostRefused and those of the
// port.
func (p Port) Attest(ctx context.Context, request quote.HostRequest) (*quote.HostQuote, error) {
	line, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hostTimeout, errors.New("no answer"))
	defer cancel()
	for {
		q, err := p.ask(ctx, line, request.Nonce)
		if err == nil || !passing(err) {
			return q, explainPort(err)
		}
		select {
		case <-ctx.Done():
			return nil, explainPort(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		case <-time.After(hostPause):
		}
	}
}

// errSlowDown is the host's when this guest asks too often.
var errSlowDown = errors.New("the host asks to slow down")

// passing says that another try may go well: somebody else has the port, or the
// host's service is not at its end of it.
func passing(err error) bool {
	for _, e := range []error{syscall.EBUSY, io.EOF, syscall.EPIPE, syscall.ECONNREFUSED, errSlowDown} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func explainPort(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return hint.Wrap(fmt.Errorf("%w: %w: %w", ErrHost, ErrNoHost, err),
			"guests of roles with a vtpm block have it; one that was made before it had: ovsactl destroy and apply, on the host")
	case errors.Is(err, os.ErrPermission):
		return hint.Wrap(fmt.Errorf("%w: %w", ErrHost, err), "run it as root, or as a member of the group that owns the port")
	case errors.Is(err, ErrHostRefused):
		return hint.Wrap(fmt.Errorf("%w: %w", ErrHost, err), "the log of the host's attestation service says why: journalctl -u ovsactl-attest, on the host")
	}
	return hint.Wrap(fmt.Errorf("%w: %w", ErrHost, err), "on the host: ovsactl host check")
}

// conn is one use of the port.
type conn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

func (p Port) open(ctx context.Context) (conn, error) {
	if path, ok := strings.CutPrefix(string(p), "unix:"); ok {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return os.OpenFile(string(p), os.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
}

// ask is one message each way. An empty line first ends what somebody who died
// may have left half said.
func (p Port) ask(ctx context.Context, line, nonce []byte) (*quote.HostQuote, error) {
	c, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(append(append([]byte{'\n'}, line...), '\n')); err != nil {
		return nil, err
	}
	answers := bufio.NewScanner(c)
	answers.Buffer(make([]byte, 0, quote.MaxHostAnswer), quote.MaxHostAnswer+1)
	for range maxStale {
		if !answers.Scan() {
			if err := answers.Err(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		a, err := quote.ParseHostAnswer(answers.Bytes())
		switch {
		case err != nil || !bytes.Equal(a.Nonce, nonce):
			continue // the end of what was said to somebody else
		case a.Problem == quote.ProblemRate:
			return nil, errSlowDown
		case a.Problem != "":
			return nil, fmt.Errorf("%w (%.64q)", ErrHostRefused, a.Problem)
		}
		return a.Quote, nil
	}
	return nil, errors.New("many answers, and none to this request")
}
