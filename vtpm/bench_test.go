package vtpm_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// BenchmarkManufacture makes a vTPM with all that a maker puts into it: by
// ovsactl, and by swtpm_setup with the same keys, certificates and banks.
//
// swtpm_setup waits until the swtpm that it stopped is gone, an orphan by then:
// up to half a second where PID 1 is slow to reap. So it is measured twice, as
// this machine runs it and below a PID 1 that reaps at once. Who compares takes
// the latter.
func BenchmarkManufacture(b *testing.B) {
	b.Run("ovsactl", func(b *testing.B) {
		host := vtpmtest.New(b)
		h := host.Open(b)
		for b.Loop() {
			if err := errors.Join(h.Manufacture(b.Context(), id), h.Remove(b.Context(), id.UUID)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("swtpm_setup", func(b *testing.B) { swtpmSetup(b) })
	b.Run("swtpm_setup_reaped", func(b *testing.B) {
		if os.Geteuid() != 0 {
			b.Skip("a PID namespace needs root")
		}
		// A shell reaps whatever became its child while it waits for another.
		swtpmSetup(b, "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", `"$@"; exit $?`, "sh")
	})
}

// swtpmSetup measures swtpm_setup, started by the command before.
func swtpmSetup(b *testing.B, before ...string) {
	for b.Loop() {
		argv := slices.Concat(before, []string{
			"swtpm_setup", "--tpm2", "--tpm-state", b.TempDir(), "--createek", "--create-ek-cert",
			"--create-platform-cert", "--lock-nvram", "--pcr-banks", "sha256,sha384", "--overwrite",
		})
		if out, err := exec.CommandContext(b.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

// BenchmarkStatus is what each vTPM adds to a plan: its record, verified.
func BenchmarkStatus(b *testing.B) {
	host := vtpmtest.New(b)
	h := host.Open(b)
	if err := errors.Join(h.Manufacture(b.Context(), id), h.Bind(b.Context(), id)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if s, err := h.Status(b.Context(), id.UUID); err != nil || s.Binding != vtpm.Bound {
			b.Fatal(s, err)
		}
	}
}
