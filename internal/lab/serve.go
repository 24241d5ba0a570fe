package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Paths inside a lab.
const (
	inside    = "/run/ovsactl/lab"
	TPMSocket = inside + "/tpm/sock"
	tpmState  = inside + "/tpm/state"
)

// TPMAddress is the lab's host TPM as ovsactl names it.
const TPMAddress = "unix:" + TPMSocket

// startTimeout bounds the start of libvirtd under a busy machine.
const startTimeout = 60 * time.Second

// Parts are what a lab gets from the packages that know how: the stand-in for
// the host's TPM, and the host's preparation.
type Parts struct {
	// StartTPM makes a TPM with state in dir answer at socket until ctx ends, and
	// makes the data directory trust it.
	StartTPM func(ctx context.Context, dir, socket, dataDir string) error
	// Attest is the command line, after the program's own name, of the attestation
	// service, and Socket where it then listens; none in a lab without guests.
	Attest []string
	Socket string
	// PrepareHost runs before libvirtd: hooks, directories.
	PrepareHost func(ctx context.Context, dataDir string) error
	// PrepareLibvirt runs when libvirt answers: networks.
	PrepareLibvirt func(ctx context.Context, dataDir string) error
}

// Serve builds the lab around the calling process, reports readiness on
// descriptor 3, and keeps the daemons running: one that dies is started again.
// It returns only on failure.
func Serve(dataDir string, parts Parts) error {
	if os.Getppid() != 1 || os.Getenv("OVSACTL_LAB_HOLDER") == "" {
		return errors.New("this verb is for `ovsactl lab up` alone")
	}
	reports := os.NewFile(3, "reports")
	unix.CloseOnExec(3)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // `lab up` may be gone
	s := server{dataDir: dataDir, parts: parts, reports: json.NewEncoder(reports)}
	if err := s.build(ctx); err != nil {
		s.reports.Encode(report{Err: err.Error(), Hint: hint.Of(err)})
		return err
	}
	s.reports.Encode(report{Ready: true})
	reports.Close()
	<-ctx.Done()
	s.daemons.Wait()
	return context.Cause(ctx)
}

type server struct {
	dataDir string
	parts   Parts
	reports *json.Encoder
	daemons sync.WaitGroup
}

func (s *server) build(ctx context.Context) error {
	steps := []struct {
		name string
		do   func() error
	}{
		{"private directories", func() error { return mountAll(s.dataDir) }},
		{"loopback", loopbackUp},
		{"libvirt configuration", writeConfig},
		{"host TPM stand-in", func() error { return s.startTPM(ctx) }},
		{"host preparation", func() error { return s.parts.PrepareHost(ctx, s.dataDir) }},
		{"attestation service", func() error { return s.startAttest(ctx) }},
		{"libvirt", func() error { return s.startLibvirt(ctx) }},
		{"default network", func() error { return s.parts.PrepareLibvirt(ctx, s.dataDir) }},
	}
	for _, step := range steps {
		s.reports.Encode(report{Step: step.name})
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (s *server) startTPM(ctx context.Context) error {
	for _, d := range []string{filepath.Dir(TPMSocket), tpmState} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	return s.parts.StartTPM(ctx, tpmState, TPMSocket, s.dataDir)
}

func (s *server) startAttest(ctx context.Context) error {
	if len(s.parts.Attest) == 0 {
		return nil
	}
	parent := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s.keep(parent, run.Cmd{Path: "/proc/self/exe", Args: s.parts.Attest}, fail)
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", s.parts.Socket)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) startLibvirt(ctx context.Context) error {
	parent := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("libvirtd does not answer after %v", startTimeout))
	defer cancel()
	s.keep(parent, run.Cmd{Path: "virtlogd"}, fail)
	s.keep(parent, run.Cmd{Path: "libvirtd"}, fail)
	for {
		// libvirtd answers on its socket before its drivers are up; a call waits for them.
		_, err := run.Cmd{Path: "virsh", Args: []string{"-c", "qemu:///system", "capabilities"}}.Output(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// keep runs a daemon in the foreground, again and again, until ctx ends, and
// tells ended each time it does.
func (s *server) keep(ctx context.Context, daemon run.Cmd, ended func(error)) {
	daemon.Dir, daemon.Stdout, daemon.Stderr = "/", os.Stderr, os.Stderr
	s.daemons.Go(func() {
		for ctx.Err() == nil {
			err := daemon.Run(ctx)
			fmt.Fprintf(os.Stderr, "lab: %s ended: %v\n", daemon.Path, err)
			ended(fmt.Errorf("%s ended", daemon.Path))
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
}

// loopbackUp brings up lo, which is down in a new network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// The lab's own libvirt configuration: root alone may use it, without polkit,
// and it keeps its hands off huge pages, control groups and security modules,
// which belong to the machine.
const (
	libvirtdConf = `unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
`
	qemuConf = `security_driver = "none"
hugetlbfs_mount = [ ]
cgroup_controllers = [ ]
`
)

func writeConfig() error {
	for name, text := range map[string]string{
		"libvirtd.conf": libvirtdConf, "qemu.conf": qemuConf, "virtlogd.conf": "",
	} {
		if err := os.WriteFile(filepath.Join("/etc/libvirt", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
