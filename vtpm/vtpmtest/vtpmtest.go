// Package vtpmtest gives tests a host with a TPM: a real swtpm on a socket, with
// an EK certificate from a CA of its own, that stands in for the hardware.
package vtpmtest

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/attester"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Host is a host in a temporary directory.
type Host struct {
	DataDir, StateDir string
	TPM               string // unix:PATH of the running stand-in

	state string
	stop  func()
}

// New starts a stand-in TPM whose vendor the host trusts. It skips the test
// where there is no swtpm.
func New(t testing.TB) *Host {
	t.Helper()
	need.Programs(t, "swtpm")
	dir := t.TempDir()
	h := &Host{DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "swtpm"), state: filepath.Join(dir, "host")}
	for _, d := range []string{h.DataDir, h.StateDir, h.state} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	vendor, err := vtpm.Open(vtpm.Options{DataDir: filepath.Join(dir, "vendor"), StateDir: h.state, TPM: "unix:/none"})
	if err != nil {
		t.Fatal(err)
	}
	id := vtpm.Identity{UUID: "00000000-0000-4000-8000-000000000001", Name: "host TPM"}
	if err := vendor.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	h.state = filepath.Join(h.state, id.UUID, "tpm2")
	trust := filepath.Join(h.DataDir, "vtpm", "trust")
	if err := os.MkdirAll(trust, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "vendor", "vtpm", "ca", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(root); block == nil {
		t.Fatal("no certificate")
	}
	if err := os.WriteFile(filepath.Join(trust, "vendor.pem"), root, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Boot(t)
	t.Cleanup(func() { h.stop() })
	return h
}

// Boot starts the host's TPM, again when it runs: another boot of the host.
func (h *Host) Boot(t testing.TB) {
	t.Helper()
	if h.stop != nil {
		h.stop()
	}
	h.TPM, h.stop = boot(t, h.state)
}

// StartGuest starts the vTPM that was manufactured for the VM with a UUID, as the
// VM's boot does, and returns its unix:PATH. stop stops it; the host cannot bind
// it before.
func (h *Host) StartGuest(t testing.TB, uuid string) (tpm string, stop func()) {
	t.Helper()
	tpm, stop = boot(t, filepath.Join(h.StateDir, uuid, "tpm2"))
	stop = sync.OnceFunc(stop)
	t.Cleanup(stop)
	return tpm, stop
}

// Attest starts the host's attestation service for the VM with that UUID, whoever
// connects, and returns the port to it.
func (h *Host) Attest(t testing.TB, uuid string) guest.Port {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovsa") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "attest")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	s := attester.Service{
		Host: now{t, h}, Log: slog.New(slog.DiscardHandler),
		VM:   func(int) (string, error) { return uuid, nil },
		Rate: rate.Inf,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return guest.Port("unix:" + path)
}

// now is a host whose TPM may be another since: it boots.
type now struct {
	t    testing.TB
	host *Host
}

func (n now) Attest(ctx context.Context, uuid string, request quote.HostRequest) (quote.HostQuote, error) {
	return n.host.Open(n.t).Attest(ctx, uuid, request)
}

// boot starts a TPM on its state and measures a boot into it.
func boot(t testing.TB, state string) (tpm string, stop func()) {
	t.Helper()
	sockets, err := os.MkdirTemp("", "ovsa") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(sockets, "tpm")
	ctx, cancel := context.WithCancel(context.Background())
	p, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + state,
		"--server", "type=unixio,path=" + path, "--ctrl", "type=unixio,path=" + path + ".ctrl",
		"--flags", "not-need-init,startup-clear",
	}}.Start(ctx)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		p.Wait()
		os.RemoveAll(sockets)
	}
	for i := 0; ; i++ {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			break
		}
		if i > 500 {
			stop()
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := vtpm.MeasureStandIn(t.Context(), "unix:"+path); err != nil {
		stop()
		t.Fatal(err)
	}
	return "unix:" + path, stop
}

// Open opens the host, as each new process does.
func (h *Host) Open(t testing.TB) *vtpm.Host {
	t.Helper()
	host, err := vtpm.Open(vtpm.Options{DataDir: h.DataDir, StateDir: h.StateDir, TPM: h.TPM})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// Extend changes a register of a TPM.
func Extend(t testing.TB, tpm transport.TPM, pcr int) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

// RemoveRecord takes the first piece of the record out of the vTPM of a VM that is
// off, as a Bind that dies leaves it, or a guest's root.
func (h *Host) RemoveRecord(t testing.TB, uuid string) {
	t.Helper()
	path, stop := h.StartGuest(t, uuid)
	defer stop()
	tpm, err := guest.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(nv.Base)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	index := tpm2.NamedHandle{Handle: nv.Base, Name: public.NVName}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHPlatform, NVIndex: index}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	// In order, or the TPM forgets it.
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}
