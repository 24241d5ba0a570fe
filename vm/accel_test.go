package vm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAcceleratorTakesTheManifestsWord(t *testing.T) {
	h, err := Open(t.Context(), "test:///default", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for want, ok := range map[string]bool{"kvm": true, "tcg": true, "xen": false} {
		got, reason, err := h.Accelerator(t.Context(), want, "")
		if (err == nil) != ok || ok && (string(got) != want || reason == "") {
			t.Errorf("%q: %q, %q, %v", want, got, reason, err)
		}
	}
}

func TestKernelHasBootedOnlyAtItsEnd(t *testing.T) {
	for text, want := range map[string]bool{
		"Probing EDD (edd=off to disable)... ok\n":                                 false,
		"[ 0.0] Linux version 6.1.0\n":                                             false,
		"[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on (0,0)": true,
	} {
		w := &bootWatch{booted: make(chan struct{})}
		for i := range len(text) { // however it is cut
			w.Write([]byte(text[i : i+1]))
		}
		booted := false
		select {
		case <-w.booted:
			booted = true
		default:
		}
		if booted != want {
			t.Errorf("%q: booted %v", text, booted)
		}
	}
}

func TestProbeIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accel.json")
	now := time.Now().UTC()
	for _, works := range []bool{true, false} {
		want := probeAnswer{Key: "k", Works: works, Reason: "because", At: now}
		if err := rememberProbe(path, want); err != nil {
			t.Fatal(err)
		}
		if got, ok := recallProbe(path, "k", now.Add(time.Hour)); !ok || got.Works != works {
			t.Errorf("recalled %+v, %v", got, ok)
		}
		if _, ok := recallProbe(path, "other machine", now); ok {
			t.Error("recalled the answer of another machine")
		}
		if _, ok := recallProbe(path, "k", now.Add(48*time.Hour)); ok != works {
			t.Errorf("two days later works=%v is recalled: %v", works, ok)
		}
	}
	if err := os.WriteFile(path, []byte("{\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := recallProbe(path, "k", now); ok {
		t.Error("garbage is taken for an answer")
	}
}

// TestProbeIsHonest runs wherever QEMU and a kernel are. Its answer depends on
// the machine: what matters is that there is one, in time, with a reason.
func TestProbeIsHonest(t *testing.T) {
	kernel := probeKernel(os.Getenv("OVSA_TEST_KERNEL"))
	if kernel == "" {
		t.Skip("no kernel to boot: set OVSA_TEST_KERNEL")
	}
	h := &Host{uri: "qemu:///system", opts: Options{DataDir: t.TempDir()}}
	began := time.Now()
	accel, reason, err := h.Accelerator(t.Context(), "auto", kernel)
	if err != nil || reason == "" || time.Since(began) > probeTimeout+10*time.Second {
		t.Fatalf("%q, %q, %v after %s", accel, reason, err, time.Since(began))
	}
	t.Logf("%s: %s", accel, reason)
	again, _, err := h.Accelerator(t.Context(), "auto", kernel)
	if err != nil || again != accel {
		t.Errorf("second answer %q, %v", again, err)
	}
	if _, err := os.Stat(kvmDevice); err == nil {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := probeKVM(ctx, kernel, probeTimeout); err == nil || !strings.Contains(err.Error(), "canceled") {
			t.Errorf("cancelled probe: %v", err)
		}
	}
}

func TestProbeBelievesOnlyAKernelThatBoots(t *testing.T) {
	for name, tt := range map[string]struct {
		qemu   string
		works  bool
		reason string
	}{
		"boots": {"echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'; exec sleep 60", true, "booted"},
		"hangs": {"echo 'Probing EDD (edd=off to disable)... ok'; exec sleep 60", false, "did not boot under KVM within"},
		"ends":  {"echo 'error: failed to set MSR 0x10a' >&2; exit 1", false, "failed to set MSR"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, qemuBinary), []byte("#!/bin/sh\n"+tt.qemu+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			got, err := probeKVM(t.Context(), "/some/kernel", 300*time.Millisecond)
			if err != nil || got.Works != tt.works || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
