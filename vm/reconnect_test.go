package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

func TestLabSerialLogsAreReadThroughLibvirt(t *testing.T) {
	h, ctx := labHost(t), t.Context()
	const dir = "/var/log/libvirt/qemu"
	for name, text := range map[string]string{
		"ovsa_x-serial.log": "one\r\ntwo\r\nthree\r\n", "ovsa_x-serial.log.0": "older", "ovsa_xy-serial.log": "not its", "ovsa_x.log": "QEMU's",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		t.Cleanup(func() { os.Remove(filepath.Join(dir, name)) })
	}
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			tail, err := h.SerialTail(ctx, "ovsa_x", 2)
			if err == nil && !slices.Equal(tail, []string{"two", "three"}) {
				err = fmt.Errorf("tail %q", tail)
			}
			done <- err
		}()
	}
	for range cap(done) {
		must(t, <-done)
	}
	if tail, err := h.SerialTail(ctx, "ovsa_none", 2); err != nil || tail != nil {
		t.Errorf("log of no guest: %q, %v", tail, err)
	}
	must(t, h.Undefine(ctx, "ovsa_x")) // there is no such domain, and still its logs go
	left, err := filepath.Glob(dir + "/ovsa_x*")
	if err != nil || !slices.Equal(left, []string{dir + "/ovsa_x.log", dir + "/ovsa_xy-serial.log"}) {
		t.Errorf("left %q, %v", left, err)
	}
	must(t, os.Rename(dir, dir+".away"))
	defer os.Rename(dir+".away", dir)
	must(t, h.Undefine(ctx, "ovsa_x"))
}
