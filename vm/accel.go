package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

const (
	qemuBinary = "qemu-system-x86_64"
	kvmDevice  = "/dev/kvm"
)

// Accelerator resolves want, "auto", "kvm" or "tcg", and says why in a sentence.
// For "auto" it starts QEMU with KVM on this machine and waits until the guest
// kernel of that path has booted: that /dev/kvm opens proves nothing. Without a
// kernel it takes this machine's own. The answer is remembered for this kernel,
// processor and QEMU. On another machine it believes libvirt. Where libvirt's
// QEMU may not open a device that this process may, the sentence says so.
func (h *Host) Accelerator(ctx context.Context, want, kernel string) (Accel, string, error) {
	denied, err := h.deniedHere(ctx)
	if err != nil {
		return "", "", fmt.Errorf("choose accelerator: %w", err)
	}
	switch want {
	case string(KVM), string(TCG):
		reason := fmt.Sprintf("%s is what the manifest asks for", want)
		if denied != "" {
			reason += "; " + denied
		}
		return Accel(want), reason, nil
	case "auto", "":
	default:
		return "", "", fmt.Errorf("accelerator %q is not auto, kvm or tcg", want)
	}
	if !local(h.uri) {
		return h.remoteAccelerator(ctx)
	}
	if denied != "" {
		return TCG, denied, nil
	}
	if f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0); err != nil {
		return TCG, fmt.Sprintf("KVM is not available: %v", err), nil
	} else if err := f.Close(); err != nil {
		return "", "", fmt.Errorf("probe KVM: %w", err)
	}
	if kernel = probeKernel(kernel); kernel == "" {
		return TCG, "there is no kernel to prove KVM with: set accel = \"kvm\" in the host block to use it unproven", nil
	}
	answer, err := h.rememberedProbe(ctx, kernel)
	if err != nil {
		return "", "", fmt.Errorf("probe KVM: %w", err)
	}
	if answer.Works {
		return KVM, answer.Reason, nil
	}
	return TCG, answer.Reason, nil
}

// deniedHere is denied for this machine's device, where there is one that this
// process may open.
func (h *Host) deniedHere(ctx context.Context) (string, error) {
	mayOpen := unix.Access(kvmDevice, unix.R_OK|unix.W_OK) == nil
	if !local(h.uri) || !mayOpen {
		return "", nil
	}
	capabilities, err := call(ctx, h, "read capabilities", func(c *libvirt.Connect) (string, error) { return c.GetCapabilities() })
	if err != nil {
		return "", err
	}
	return denied(capabilities, kvmDevice)
}

// remoteAccelerator asks libvirt what its host offers; a probe there would need
// a disk and a domain.
func (h *Host) remoteAccelerator(ctx context.Context) (Accel, string, error) {
	text, err := call(ctx, h, "read capabilities", func(c *libvirt.Connect) (string, error) { return c.GetCapabilities() })
	if err != nil {
		return "", "", err
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return "", "", fmt.Errorf("read capabilities: %w", err)
	}
	for _, guest := range caps.Guests {
		for _, d := range guest.Arch.Domains {
			if guest.Arch.Name == "x86_64" && d.Type == "kvm" {
				return KVM, "libvirt offers KVM on that host (not proven from here; set accel = \"tcg\" if guests hang)", nil
			}
		}
	}
	return TCG, "libvirt offers no KVM on that host", nil
}

// probeKernel returns a kernel that can be read, "" when there is none.
func probeKernel(kernel string) string {
	candidates := []string{kernel}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		candidates = append(candidates, "/boot/vmlinuz-"+unix.ByteSliceToString(uts.Release[:]))
	}
	for _, path := range append(candidates, "/boot/vmlinuz", "/vmlinuz") {
		if f, err := os.Open(path); path != "" && err == nil {
			f.Close()
			return path
		}
	}
	return ""
}

// rememberedProbe probes unless the answer for the same machine is known.
func (h *Host) rememberedProbe(ctx context.Context, kernel string) (probeAnswer, error) {
	version, err := run.Cmd{Path: qemuBinary, Args: []string{"--version"}}.Output(ctx)
	if err != nil {
		return probeAnswer{}, hint.Wrap(err, "install QEMU: `apt install qemu-system-x86`")
	}
	key, err := probeKey(kernel, string(version))
	if err != nil {
		return probeAnswer{}, err
	}
	path := ""
	if h.opts.DataDir != "" {
		path = filepath.Join(h.opts.DataDir, "accel.json")
	}
	if answer, ok := recallProbe(path, key, time.Now()); ok {
		return answer, nil
	}
	answer, err := probeKVM(ctx, kernel, probeTimeout)
	if err != nil {
		return probeAnswer{}, err
	}
	answer.Key, answer.At = key, time.Now().UTC()
	return answer, rememberProbe(path, answer)
}

// cpuModel is what tells processors apart, as far as KVM is concerned.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	var kept []string
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" {
			break // the first processor is enough
		}
		name, _, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags":
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
