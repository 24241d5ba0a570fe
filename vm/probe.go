package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
)

const (
	// probeTimeout is several times what a kernel needs under a KVM that works.
	probeTimeout = 10 * time.Second
	probeLook    = 250 * time.Millisecond
	// A no may have been a busy machine's: it is asked again some day.
	forgetNoAfter = 24 * time.Hour
	maxProbeFile  = 64 << 10
)

// probeAnswer says whether KVM runs a guest here.
type probeAnswer struct {
	Key    string    `json:"key"`
	Works  bool      `json:"works"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// probeKey names all that the answer depends on.
func probeKey(kernel, qemu string) (string, error) {
	f, err := os.Open(kernel)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00", qemu, cpuModel(), unix.ByteSliceToString(uts.Release[:]))
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), nil
}

// recallProbe reads the remembered answer; a file that is not as it is written
// here is no answer.
func recallProbe(path, key string, now time.Time) (probeAnswer, bool) {
	if path == "" {
		return probeAnswer{}, false
	}
	f, err := os.Open(path)
	if err != nil {
		return probeAnswer{}, false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProbeFile))
	if err != nil {
		return probeAnswer{}, false
	}
	var a probeAnswer
	if json.Unmarshal(text, &a) != nil || a.Key != key {
		return probeAnswer{}, false
	}
	return a, a.Works || now.Sub(a.At) < forgetNoAfter
}

func rememberProbe(path string, a probeAnswer) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	err = atomicfile.WriteFile(path, append(text, '\n'), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no data directory yet, so nothing to remember in
	}
	return err
}

// probeKVM boots the kernel under KVM with no disk: one that works ends within
// a second in a panic about the missing root file system.
func probeKVM(ctx context.Context, kernel string, timeout time.Duration) (probeAnswer, error) {
	dir, err := os.MkdirTemp("", "ovsactl-kvm-")
	if err != nil {
		return probeAnswer{}, err
	}
	defer os.RemoveAll(dir)
	monitor := filepath.Join(dir, "qmp")
	began := time.Now()
	serial := &bootWatch{booted: make(chan struct{})}
	process, err := run.Cmd{Path: qemuBinary, Args: probeArgs(kernel, monitor), Stdout: serial}.Start(ctx)
	if err != nil {
		return probeAnswer{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	late := time.NewTimer(timeout)
	defer late.Stop()
	look := time.NewTicker(probeLook)
	defer look.Stop()
	for {
		select {
		case <-serial.booted:
			quit(monitor)
			return probeAnswer{Works: true, Reason: fmt.Sprintf("KVM booted a guest's kernel in %.1f s", time.Since(began).Seconds())}, end(process, ended)
		case err := <-ended:
			if ctx.Err() != nil {
				return probeAnswer{}, context.Cause(ctx)
			}
			return probeAnswer{Reason: "QEMU ended under KVM: " + lastLine(err)}, nil
		case <-look.C:
			// A guest that KVM could not go on with stays where it is.
			if status := vcpuStatus(monitor); status == "internal-error" {
				return probeAnswer{Reason: fmt.Sprintf("KVM gave a guest's kernel up after %.1f s (QEMU says %s)", time.Since(began).Seconds(), status)}, end(process, ended)
			}
		case <-late.C:
			status := "QEMU does not answer"
			if s := vcpuStatus(monitor); s != "" {
				status = "QEMU says " + strings.Map(visible, s)
			}
			return probeAnswer{Reason: fmt.Sprintf("a guest's kernel did not boot under KVM within %s (%s)", timeout, status)}, end(process, ended)
		}
	}
}

// end kills a QEMU that may hang and waits for it: how it ends says nothing.
func end(process *run.Process, ended <-chan error) error {
	err := process.Signal(unix.SIGKILL)
	<-ended
	return err
}

func probeArgs(kernel, monitor string) []string {
	return []string{
		"-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "stdio",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + strings.ReplaceAll(monitor, ",", ",,"),
		"-mon", "chardev=qmp,mode=control",
		"-kernel", kernel, "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1",
	}
}

// bootWatch reads what the kernel prints until it has come to its end.
type bootWatch struct {
	mu     sync.Mutex
	recent []byte
	done   bool
	booted chan struct{}
}

func (b *bootWatch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent = append(b.recent, p...)
	for _, mark := range []string{"Kernel panic - not syncing: VFS", "Kernel panic - not syncing: No working init", "Run /init as init process"} {
		if !b.done && bytes.Contains(b.recent, []byte(mark)) {
			b.done = true
			close(b.booted)
		}
	}
	b.recent = b.recent[max(0, len(b.recent)-256):]
	return len(p), nil
}

// vcpuStatus asks QEMU what it thinks of the guest (RunState in its QAPI schema),
// "" when it does not answer.
func vcpuStatus(socket string) string {
	var answer struct {
		Return struct{ Status string }
	}
	if out, err := monitorRun(socket, "query-status"); err != nil || json.Unmarshal(out, &answer) != nil {
		return ""
	}
	return answer.Return.Status
}

// quit ends QEMU; when it does not listen the signal that follows will.
func quit(socket string) { _, _ = monitorRun(socket, "quit") }

func monitorRun(socket, command string) ([]byte, error) {
	m, err := qmp.NewSocketMonitor("unix", socket, time.Second)
	if err != nil {
		return nil, err
	}
	if err := m.Connect(); err != nil {
		return nil, err
	}
	defer m.Disconnect()
	return m.Run([]byte(`{"execute":"` + command + `"}`))
}

func lastLine(err error) string {
	if err == nil {
		return "without an error"
	}
	text := err.Error()
	var e *run.Error
	if errors.As(err, &e) && e.Stderr != "" {
		text = e.Stderr
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Map(visible, lines[len(lines)-1])
}
