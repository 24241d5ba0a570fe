// Package standin plays a host and one of its guests, for trying licensing out where
// there is no libvirt and no TPM: a software TPM in the place of the host's, and a
// virtual TPM of a guest that it vouches for. Everything is in one directory, and
// says of itself that it is simulated.
package standin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/attester"
	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// ErrBusy says that a stand-in runs in the directory already.
var ErrBusy = errors.New("a stand-in runs there already")

const (
	startTime = 10 * time.Second // that a TPM has to answer in
	stopTime  = 2 * time.Second  // that a TPM has to shut down in order
	maxPath   = 107              // of a socket, see unix(7)
)

// hostUUID names the host's TPM in its own state directory.
const hostUUID = "00000000-0000-4000-8000-000000000001"

// StandIn is a host and a guest that run. Stop it, or wait for it.
type StandIn struct {
	HostTPM  string // unix:PATH of the TPM in the place of the host's
	GuestTPM string // unix:PATH of the guest's
	Port     string // unix:PATH by which the guest asks the host for its word, a guest.Port
	DataDir  string // the host's, as ovsactl --data-dir takes it
	Vendor   string // file with the certificate of the maker of the host's TPM
	HostID   string
	VM       vtpm.Identity

	lock   *lock.Lock
	tpms   []*tpm
	attest func() // ends the host's attestation service, and waits for its end
}

// Start makes what dir lacks, which is made in it where it is not there, and boots
// the host and its guest. Identities stay from one start to the next; the record in
// which the host vouches for the guest is made anew, as at each start of a guest. The
// TPMs end when this process does, however that is. ErrBusy says that another process
// has dir.
func Start(ctx context.Context, dir string, vm vtpm.Identity) (_ *StandIn, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if longest := len(at("host-tpm.ctrl")); longest > maxPath {
		return nil, fmt.Errorf("start stand-in: the path %q is too long for sockets in it by %d bytes", dir, longest-maxPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	s := &StandIn{HostTPM: "unix:" + at("host-tpm"), GuestTPM: "unix:" + at("tpm"), Port: "unix:" + at("attest"), DataDir: at("data"), Vendor: at("vendor.pem"), VM: vm}
	s.lock, err = lock.Try(at("lock"), fmt.Sprintf("pid %d (ovsactl)", os.Getpid()))
	var busy *lock.Busy
	if errors.As(err, &busy) {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	defer func() {
		if err != nil {
			s.Stop()
			err = fmt.Errorf("start stand-in: %w", err)
		}
	}()
	if err := s.bootHost(ctx, at); err != nil {
		return nil, err
	}
	host, err := vtpm.Open(vtpm.Options{DataDir: s.DataDir, StateDir: at("guests"), TPM: s.HostTPM})
	if err != nil {
		return nil, err
	}
	who, err := host.Enrolment(ctx)
	if err != nil {
		return nil, err
	}
	s.HostID = who.HostID
	if err := host.Manufacture(ctx, vm); err != nil {
		return nil, err
	}
	if err := host.Bind(ctx, vm); err != nil {
		return nil, err
	}
	if err := s.answer(ctx, host, at("attest")); err != nil {
		return nil, err
	}
	return s, s.boot(ctx, filepath.Join(at("guests"), vm.UUID, "tpm2"), s.GuestTPM)
}

// answer plays the host's attestation service. Whoever may open the socket in this
// private directory is the guest.
func (s *StandIn) answer(ctx context.Context, host *vtpm.Host, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	service := attester.Service{
		Host: host, Log: slog.New(slog.DiscardHandler),
		VM: func(int) (string, error) { return s.VM.UUID, nil },
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = service.Serve(ctx, l) // nil, or the guest's next request says that nobody listens
	}()
	s.attest = func() {
		cancel()
		<-ended
	}
	return nil
}

// bootHost makes the host's TPM, whose maker the host believes, and boots it.
func (s *StandIn) bootHost(ctx context.Context, at func(string) string) error {
	maker, err := vtpm.Open(vtpm.Options{DataDir: at("maker"), StateDir: at("host"), TPM: s.HostTPM})
	if err != nil {
		return err
	}
	if err := maker.Manufacture(ctx, vtpm.Identity{UUID: hostUUID, Name: "simulated host TPM"}); err != nil {
		return err
	}
	root, err := os.ReadFile(filepath.Join(at("maker"), "vtpm", "ca", "ca.pem"))
	if err != nil {
		return err
	}
	trust := filepath.Join(s.DataDir, "vtpm", "trust")
	if err := os.MkdirAll(trust, 0o755); err != nil {
		return err
	}
	for _, path := range []string{s.Vendor, filepath.Join(trust, "stand-in.pem")} {
		if err := atomicfile.WriteFile(path, root, 0o644); err != nil {
			return err
		}
	}
	return s.boot(ctx, filepath.Join(at("host"), hostUUID, "tpm2"), s.HostTPM)
}

// boot starts a TPM on its state, and measures a boot into it.
func (s *StandIn) boot(ctx context.Context, state, address string) error {
	t, err := start(ctx, state, address)
	if err != nil {
		return err
	}
	s.tpms = append(s.tpms, t)
	return vtpm.MeasureStandIn(ctx, address)
}

// Wait waits until ctx ends, or a TPM does, which is an error.
func (s *StandIn) Wait(ctx context.Context) error {
	ended := make(chan error, len(s.tpms))
	for _, t := range s.tpms {
		go func() {
			<-t.ended
			ended <- fmt.Errorf("the TPM %s ended: %w", t.address, t.err)
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// Stop shuts the guest and the host down in order, and waits for their ends.
func (s *StandIn) Stop() {
	if s.attest != nil {
		s.attest()
	}
	for i := len(s.tpms) - 1; i >= 0; i-- {
		s.tpms[i].stop()
	}
	s.lock.Release()
}

// tpm is a swtpm that runs.
type tpm struct {
	address string
	process *run.Process
	ended   chan struct{}
	err     error // once it has ended
}

// start starts a swtpm, which ends with this process.
func start(ctx context.Context, state, address string) (*tpm, error) {
	path := address[len("unix:"):]
	for _, socket := range []string{path, path + ".ctrl"} { // of a process that was killed
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	p, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + state + ",mode=0600",
		"--server", "type=unixio,path=" + path + ",mode=0600", "--ctrl", "type=unixio,path=" + path + ".ctrl,mode=0600",
		"--flags", "not-need-init,startup-clear",
	}, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}}.Start(context.WithoutCancel(ctx))
	if err != nil {
		return nil, hint.Wrap(err, "the packages swtpm and swtpm-tools have it; ovsactl host check says what else is missing")
	}
	t := &tpm{address: address, process: p, ended: make(chan struct{})}
	go func() {
		t.err = p.Wait()
		close(t.ended)
	}()
	if err := t.await(ctx, path); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// await waits until the TPM listens.
func (t *tpm) await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-t.ended:
			return t.err
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", t.address, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop shuts the TPM down as a machine does that is switched off, so that its next
// boot is not told that it was cut off. One that a client has open is cut off.
func (t *tpm) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if c, err := guest.Open(ctx, t.address); err == nil {
		_, _ = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(c) // or it is cut off
		c.Close()
	}
	_ = t.process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-t.ended:
	case <-time.After(stopTime):
		_ = t.process.Signal(syscall.SIGKILL)
		<-t.ended
	}
}
