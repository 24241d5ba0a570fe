package vtpm_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var id = vtpm.Identity{UUID: "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11", Name: "ovsa_runtime"}

func permall(h *vtpmtest.Host) string {
	return filepath.Join(h.StateDir, id.UUID, "tpm2", "tpm2-00.permall")
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

func TestBindAndVerify(t *testing.T) {
	host := vtpmtest.New(t)
	h := host.Open(t)
	if s, err := h.Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Missing {
		t.Fatalf("before: %+v, %v", s, err)
	}
	if err := h.Bind(t.Context(), id); !errors.Is(err, vtpm.ErrMissing) {
		t.Errorf("bind of nothing: %v", err)
	}
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	made := digest(t, permall(host))
	if err := h.Manufacture(t.Context(), id); err != nil || digest(t, permall(host)) != made {
		t.Errorf("a second manufacture changed the state, or failed: %v", err)
	}
	if s, err := h.Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Unbound {
		t.Errorf("unbound: %+v, %v", s, err)
	}
	for range 2 { // the second renews
		if err := host.Open(t).Bind(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if s, err := host.Open(t).Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Bound || !s.Simulated {
			t.Errorf("bound: %+v, %v", s, err)
		}
	}
	v, err := h.Verify(t.Context(), id.UUID, true)
	if err != nil || !v.OK() || v.Source != vtpm.FromNVRAM {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	for _, step := range []string{quote.StepHostEK, quote.StepEKs, quote.StepEKCerts, quote.StepMeasured} {
		if v.Step(step).Status != quote.Passed {
			t.Errorf("%s: %+v", step, v.Step(step))
		}
	}
	if v, err := h.Verify(t.Context(), id.UUID, false); err != nil || v.OK() || v.Step(quote.StepEnrolled).Status != quote.Failed {
		t.Errorf("an AK that nobody enrolled passed: %v", err)
	}
	info, err := h.Show(t.Context(), id.UUID)
	if err != nil || info.Claims.VMName != id.Name || len(info.PCRs) != 8 {
		t.Errorf("show: %+v, %v", info, err)
	}
	if err := h.Remove(t.Context(), id.UUID); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(host.StateDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("remove left %q, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", id.UUID)); !os.IsNotExist(err) {
		t.Errorf("remove left the record: %v", err)
	}
}

func TestAnotherBootOfTheHostMakesStale(t *testing.T) {
	host := vtpmtest.New(t)
	if err := errors.Join(host.Open(t).Manufacture(t.Context(), id), host.Open(t).Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	host.Boot(t)
	if s, err := host.Open(t).Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Stale {
		t.Errorf("%+v, %v", s, err)
	}
	if err := host.Open(t).Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if s, err := host.Open(t).Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Bound {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestStateOfAnotherHostIsNotOurs(t *testing.T) {
	host, other := vtpmtest.New(t), vtpmtest.New(t)
	if err := errors.Join(host.Open(t).Manufacture(t.Context(), id), host.Open(t).Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	// The same data on a machine with another TPM.
	moved := *host
	moved.TPM = other.TPM
	if s, err := moved.Open(t).Status(t.Context(), id.UUID); err != nil || s.Binding != vtpm.Stale {
		t.Errorf("%+v, %v", s, err)
	}
	// A record whose vTPM the other host's CA has not certified.
	if err := other.Open(t).Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := other.Open(t).Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(permall(host), permall(other)); err != nil {
		t.Fatal(err)
	}
	v, err := other.Open(t).Verify(t.Context(), id.UUID, true)
	if err != nil || v.OK() {
		t.Errorf("foreign state verifies: %v", err)
	}
}

func TestStateInUseIsRefused(t *testing.T) {
	host := vtpmtest.New(t)
	h := host.Open(t)
	if err := errors.Join(h.Manufacture(t.Context(), id), h.Bind(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	running := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Dir(permall(host)),
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { running.Process.Kill(); running.Wait() }()
	for range 500 { // it has the state once it listens
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := h.Bind(t.Context(), id); !errors.Is(err, vtpm.ErrRunning) {
		t.Errorf("bind of a running guest's vTPM: %v", err)
	}
	v, err := h.Verify(t.Context(), id.UUID, true)
	if err != nil || v.Source != vtpm.FromHost || !v.OK() {
		t.Errorf("verify of a running guest: %v, %v", v.Source, err)
	}
	for _, step := range []string{quote.StepEKs, quote.StepEKCerts} {
		if got := v.Step(step); got.Status != quote.Passed {
			t.Errorf("running, %+v", got)
		}
	}
}

func TestBlankStateIsNeverOverwritten(t *testing.T) {
	host := vtpmtest.New(t)
	h := host.Open(t)
	dir := filepath.Dir(permall(host))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Errorf("an empty directory, which would start a blank TPM, is in the way: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tpm2-00.volatilestate"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Manufacture(t.Context(), id); err == nil {
		t.Error("it took a directory with something in it")
	}
}

func TestHostWithoutATPM(t *testing.T) {
	host := vtpmtest.New(t)
	host.TPM = "unix:/nonexistent/tpm"
	h := host.Open(t)
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.Bind(t.Context(), id); err == nil {
		t.Error("it bound without a host TPM")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Bind(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestEKIssuerMakesNothing(t *testing.T) {
	host := vtpmtest.New(t)
	name, err := host.Open(t).EKIssuer(t.Context())
	if err != nil || !strings.Contains(name, "CN=") {
		t.Errorf("issuer %q, %v", name, err)
	}
	if _, err := os.Stat(filepath.Join(host.DataDir, "vtpm", "locks")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking left locks: %v", err)
	}
	host.TPM = "unix:/nonexistent/tpm"
	if name, err := host.Open(t).EKIssuer(t.Context()); err == nil {
		t.Errorf("issuer %q without a TPM", name)
	}
}
