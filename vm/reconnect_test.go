package vm_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vm"
)

// TestLabRestartOfLibvirt kills libvirtd, which the lab starts again, under an
// open connection.
func TestLabRestartOfLibvirt(t *testing.T) {
	labHost(t).Close()
	var lost atomic.Int32
	h, err := vm.Open(t.Context(), "qemu:///system", vm.Options{Reconnecting: func(error) { lost.Add(1) }})
	must(t, err)
	defer h.Close()
	before, err := h.Domains(t.Context())
	must(t, err)
	text, err := os.ReadFile("/run/libvirtd.pid")
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	after, err := h.Domains(ctx)
	if err != nil || len(after) != len(before) || lost.Load() != 1 {
		t.Errorf("%d domains, then %d; connection lost %d times; %v", len(before), len(after), lost.Load(), err)
	}

	// A libvirt that hangs does not hang its caller.
	text, err = os.ReadFile("/run/libvirtd.pid")
	must(t, err)
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT)
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := h.Domains(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging libvirt: %v, want the deadline", err)
	}
}
