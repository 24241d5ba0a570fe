package standin_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/standin"
)

var vm = vtpm.Identity{UUID: "5d1f0a52-7c0e-4b5a-8f6c-2f3f0f6c9a10", Name: "stand-in"}

// dirOf has this test binary run a stand-in, say so, and wait.
const dirOf = "OVSA_TEST_STANDIN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirOf); dir != "" {
		_, err := standin.Start(context.Background(), dir, vm)
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString("running\n")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

// newDir is a directory with a short name, as sockets need.
func newDir(t *testing.T) string {
	t.Helper()
	need.Programs(t, "swtpm")
	dir, err := os.MkdirTemp("", "si") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "stand-in")
}

func start(t *testing.T, dir string) *standin.StandIn {
	t.Helper()
	s, err := standin.Start(t.Context(), dir, vm)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// proven is what the guest's quote says, which has to verify for this host, short of
// its enrolment.
func proven(t *testing.T, s *standin.StandIn) quote.Result {
	t.Helper()
	nonce := make([]byte, 32)
	evidence, err := guest.Quote(t.Context(), s.GuestTPM, nonce, guest.Port(s.Port))
	if err != nil {
		t.Fatal(err)
	}
	text, err := evidence.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	pemText, err := os.ReadFile(s.Vendor)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pemText)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	policy := quote.EvidencePolicy{Record: quote.Policy{VM: vm.UUID, Trust: []*x509.Certificate{root}, AllowUnenrolled: true, Now: time.Now()}}
	r := quote.VerifyEvidence(text, nonce, policy)
	if err := r.Err(); err != nil {
		t.Fatalf("%v\n%v", err, r.Steps)
	}
	other := policy
	other.Record.Trust = nil
	if quote.VerifyEvidence(text, nonce, other).Err() == nil {
		t.Error("it verifies for whoever does not believe its maker")
	}
	return r
}

// TestStandIn: a guest without libvirt proves where it runs, and is called simulated;
// it is the same guest, on the same host, after another boot of both.
func TestStandIn(t *testing.T) {
	dir := newDir(t)
	first := start(t, dir)
	before := proven(t, first)
	warned := false
	for _, step := range before.Steps {
		warned = warned || step.Status == quote.Warning && strings.Contains(step.Name+step.Detail, "simulated")
	}
	if !warned {
		t.Errorf("nothing says that it is simulated: %v", before.Steps)
	}
	if _, err := standin.Start(t.Context(), dir, vm); !errors.Is(err, standin.ErrBusy) {
		t.Errorf("a second one: %v, want ErrBusy", err)
	}
	first.Stop()
	if _, err := guest.Open(t.Context(), first.GuestTPM); err == nil {
		t.Error("its TPM answers when it is stopped")
	}
	second := start(t, dir)
	defer second.Stop()
	after := proven(t, second)
	for _, address := range []string{second.HostTPM, second.GuestTPM} {
		tpm, err := guest.Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		clock, err := tpm2.ReadClock{}.Execute(tpm)
		if err != nil || !clock.CurrentTime.ClockInfo.Safe {
			t.Errorf("%s was not shut down in order: %v", address, err)
		}
		tpm.Close()
	}
	if second.HostID != first.HostID || before.Claims.EKs[0].Name != after.Claims.EKs[0].Name {
		t.Error("it is another host, or another guest, after a boot")
	}
	if was, is := before.Clock.ResetCount, after.Clock.ResetCount; is <= was {
		t.Errorf("the host's boots were counted %d, and then %d", was, is)
	}
}

// TestKilledStandIn: a stand-in that is killed takes its TPMs with it, and the next
// one is the same guest.
func TestKilledStandIn(t *testing.T) {
	dir := newDir(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), dirOf+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, len("running\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, name := range []string{"tpm", "host-tpm"} {
		for ctx.Err() == nil {
			c, err := guest.Open(ctx, "unix:"+filepath.Join(dir, name))
			if err != nil {
				break
			}
			c.Close()
			time.Sleep(10 * time.Millisecond)
		}
	}
	s, err := standin.Start(ctx, dir, vm)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	proven(t, s)
}

// TestWait: a stand-in whose TPM ends says so; one whose context ends is done.
func TestWait(t *testing.T) {
	s := start(t, newDir(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- s.Wait(t.Context()) }()
	s.Stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("%v, want that it ended", err)
	}
}

func TestLongPath(t *testing.T) {
	_, err := standin.Start(t.Context(), filepath.Join(t.TempDir(), strings.Repeat("x", 100)), vm)
	if err == nil || !strings.Contains(err.Error(), "too long for sockets") {
		t.Error(err)
	}
}
