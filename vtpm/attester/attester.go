// Package attester is the host's attestation service: it answers what guests ask
// through their virtio-serial ports, and vouches for each proof of a guest with a
// fresh quote of the host's TPM. It is an Attester of RFC 9334 for the layer below
// the guest.
//
// Which virtual machine asks follows from the process at the other end of the
// socket, the machine's QEMU, never from what the guest says. A guest can ask for
// nothing but a quote, and not often.
package attester

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Host vouches for a proof of a VM: a vtpm.Host.
type Host interface {
	Attest(ctx context.Context, uuid string, request quote.HostRequest) (quote.HostQuote, error)
}

// Limits of what guests get.
const (
	burst      = 16          // quotes that a guest may ask for at once
	every      = time.Second // and one more each
	answerTime = 10 * time.Second
	maxGuests  = 4096 // connections
	maxEach    = 4    // of one process
)

// Service answers guests. Its fields are set before Serve.
type Service struct {
	Host Host
	// VM is the UUID of the virtual machine whose QEMU is the process with that
	// id. Any other process is an error, that of a machine about which nothing is
	// known yet fs.ErrNotExist.
	VM  func(pid int) (uuid string, err error)
	Log *slog.Logger
	// Rate is how often a guest may ask, and Burst how often at once; zero is once a
	// second and 16.
	Rate  rate.Limit
	Burst int

	mu     sync.Mutex
	limits map[string]*rate.Limiter // by UUID
	open   map[int]int              // connections by process
}

// Serve answers on l until ctx ends, and closes l then.
func (s *Service) Serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var guests sync.WaitGroup
	defer guests.Wait()
	slots := make(chan struct{}, maxGuests)
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("attest: %w", err)
		}
		slots <- struct{}{}
		guests.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			if err := s.guest(ctx, c); err != nil && ctx.Err() == nil {
				s.Log.Info("connection ended", "cause", err.Error())
			}
		})
	}
}

// guest answers one connection, one line after the other.
func (s *Service) guest(ctx context.Context, c *net.UnixConn) error {
	p, err := peerOf(c)
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := s.VM(p.pid); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	if !s.enter(p.pid) {
		return fmt.Errorf("process %d: it has %d connections already", p.pid, maxEach)
	}
	defer s.leave(p.pid)
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, 0, quote.MaxHostRequest), quote.MaxHostRequest+1)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		// Asked each time: a VM may be known only after its QEMU has connected.
		uuid, err := s.identify(p)
		if err != nil {
			return err
		}
		line, err := s.answer(ctx, uuid, lines.Bytes()).Marshal()
		if err != nil {
			return err
		}
		// A guest that does not read is not waited for.
		if err := c.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		if _, err := c.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s *Service) answer(ctx context.Context, uuid string, line []byte) quote.HostAnswer {
	log := s.Log.With("vm", uuid)
	request, err := quote.ParseHostRequest(line)
	a := quote.HostAnswer{Version: 1, Nonce: request.Nonce}
	if !s.limit(uuid).Allow() { // what is no request counts, too
		a.Problem = quote.ProblemRate
		return a
	}
	if err != nil {
		log.Info("refused", "cause", err.Error())
		a.Problem = quote.ProblemRequest
		return a
	}
	q, err := s.Host.Attest(ctx, uuid, request)
	if err != nil {
		log.Error("no quote", "cause", err.Error())
		a.Problem = quote.ProblemHost
		return a
	}
	log.Info("vouched for a proof")
	a.Quote = &q
	return a
}

// limit outlives connections: a guest that reboots begins with what it had left.
func (s *Service) limit(uuid string) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limits == nil {
		s.limits = make(map[string]*rate.Limiter)
	}
	if s.limits[uuid] == nil {
		if len(s.limits) >= maxGuests { // of VMs that are long gone
			clear(s.limits)
		}
		s.limits[uuid] = rate.NewLimiter(cmp.Or(s.Rate, rate.Every(every)), cmp.Or(s.Burst, burst))
	}
	return s.limits[uuid]
}

// enter keeps one process from taking all connections.
func (s *Service) enter(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[int]int)
	}
	if s.open[pid] >= maxEach {
		return false
	}
	s.open[pid]++
	return true
}

func (s *Service) leave(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[pid]--; s.open[pid] == 0 {
		delete(s.open, pid)
	}
}

// peer is the process that connected, by an id that is its own for as long as fd
// is open.
type peer struct {
	pid int
	fd  int
}

// peerOf is the process at the other end (unix(7), SO_PEERCRED).
func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return peer{}, err
	}
	if credErr != nil {
		return peer{}, os.NewSyscallError("getsockopt", credErr)
	}
	fd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return peer{}, fmt.Errorf("process %d: %w", cred.Pid, err)
	}
	return peer{int(cred.Pid), fd}, nil
}

func (p peer) close() { unix.Close(p.fd) }

// identify is the VM of a process that still runs: another could have its id
// since.
func (s *Service) identify(p peer) (string, error) {
	uuid, err := s.VM(p.pid)
	if err != nil {
		return "", fmt.Errorf("process %d: %w", p.pid, err)
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	if err != nil {
		return "", fmt.Errorf("process %d: %w", p.pid, err)
	}
	if n > 0 {
		return "", fmt.Errorf("process %d: %w", p.pid, errEnded)
	}
	return uuid, nil
}

var errEnded = errors.New("it has ended")
