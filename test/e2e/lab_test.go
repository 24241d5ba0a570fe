//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// host is a lab with what a test says about it.
type host struct {
	lab     string
	program string // bin/ovsactl
	dataDir string
	dir     string // for manifests
	cloud   string // a stock cloud image, on both sides
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("exit %d after %.1f s\nstdout:\n%s\nstderr:\n%s", r.code, r.took.Seconds(), r.stdout, r.stderr)
}

// openLab starts a lab of its own for the test.
func openLab(tb testing.TB) *host {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("labs need root")
	}
	program, err := filepath.Abs("../../bin/ovsactl")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		tb.Fatalf("%v: run make package first", err)
	}
	h := &host{lab: fmt.Sprintf("e2e-%d", os.Getpid()), program: program, dataDir: "/var/OVSA", dir: tb.TempDir()}
	if dir := os.Getenv("OVSA_TEST_DATA"); dir != "" {
		h.dataDir = dir
	}
	h.images(tb)
	tb.Cleanup(func() {
		if tb.Failed() && os.Getenv("OVSA_TEST_KEEP") != "" {
			tb.Logf("the lab is there: ovsactl lab shell --name %s", h.lab)
			return
		}
		h.outside(tb, "lab", "down", "--name", h.lab)
	})
	if r := h.outside(tb, "lab", "up", "--name", h.lab, "--data-dir", h.dataDir); r.code != 0 {
		tb.Fatalf("lab up: %v", r)
	}
	return h
}

// outside runs ovsactl on the machine itself.
func (h *host) outside(tb testing.TB, args ...string) result {
	tb.Helper()
	return execute(tb, exec.Command(h.program, args...))
}

// command is a command in the lab.
func (h *host) command(argv ...string) *exec.Cmd {
	return exec.Command(h.program, append([]string{"lab", "run", "--name", h.lab, "--"}, argv...)...)
}

// run runs a command in the lab.
func (h *host) run(tb testing.TB, argv ...string) result {
	tb.Helper()
	return execute(tb, h.command(argv...))
}

// ovsactl runs ovsactl in the lab.
func (h *host) ovsactl(tb testing.TB, args ...string) result {
	tb.Helper()
	r := h.run(tb, append([]string{h.program}, args...)...)
	tb.Logf("ovsactl %s: exit %d after %.1f s", strings.Join(args, " "), r.code, r.took.Seconds())
	return r
}

// must is ovsactl that has to succeed.
func (h *host) must(tb testing.TB, args ...string) result {
	tb.Helper()
	r := h.ovsactl(tb, args...)
	if r.code != 0 {
		tb.Fatalf("ovsactl %s: %v", strings.Join(args, " "), r)
	}
	return r
}

// virsh asks the lab's libvirt, as an administrator would.
func (h *host) virsh(tb testing.TB, args ...string) string {
	tb.Helper()
	r := h.run(tb, append([]string{"virsh", "-q", "-c", "qemu:///system"}, args...)...)
	if r.code != 0 {
		tb.Fatalf("virsh %s: %v", strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// guest runs a command in a role's guest.
func (h *host) guest(tb testing.TB, manifest, role string, argv ...string) string {
	tb.Helper()
	r := h.run(tb, append([]string{h.program, "exec", "-f", manifest, role, "--"}, argv...)...)
	if r.code != 0 {
		tb.Fatalf("in %s: %s: %v", role, strings.Join(argv, " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// bootID changes when a guest boots.
func (h *host) bootID(tb testing.TB, manifest, role string) string {
	tb.Helper()
	return h.guest(tb, manifest, role, "cat", "/proc/sys/kernel/random/boot_id")
}

func execute(tb testing.TB, cmd *exec.Cmd) result {
	tb.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	err := cmd.Run()
	r := result{stdout: out.String(), stderr: errs.String(), took: time.Since(begin)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		tb.Fatalf("run %s: %v", cmd.Path, err)
	}
	return r
}

// write writes a manifest and returns its path.
func (h *host) write(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	return path
}

// decode reads the JSON that a command printed.
func decode[T any](tb testing.TB, r result) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		tb.Fatalf("%v in %v", err, r)
	}
	return v
}

// within polls until ok or the time is over.
func within(tb testing.TB, d time.Duration, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			tb.Fatalf("not within %v: %s", d, what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
