package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/packaging"
)

// Host is the machine to look at or to prepare.
type Host struct {
	URI     string // libvirt's
	DataDir string
	TPM     string
	Program string // absolute path of ovsactl, for the hook and the attestation service
	Etc     string // libvirt's configuration directory; "" for /etc/libvirt
	// AttestSocket is where the attestation service listens.
	AttestSocket string
	Units        string // systemd's directory of the administrator's units; "" for /etc/systemd/system
}

// DirSpec is a directory that a host needs.
type DirSpec struct {
	Path string
	Mode fs.FileMode
}

// Dirs lists the directories of a data directory, itself first.
func Dirs(dataDir string) []DirSpec {
	return []DirSpec{
		{dataDir, 0o755},
		{filepath.Join(dataDir, "scripts"), 0o755},
		{filepath.Join(dataDir, "iso"), 0o755},
		{filepath.Join(dataDir, "vm_images"), 0o711}, // guests' disks: QEMU's user passes through
		{filepath.Join(dataDir, "vtpm"), 0o700},
	}
}

// MakeDirs makes the data directory's directories and takes away what their
// modes have too much.
func (h Host) MakeDirs() error {
	for _, d := range Dirs(h.DataDir) {
		if err := os.MkdirAll(d.Path, d.Mode); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return err
		}
		if extra := info.Mode().Perm() &^ d.Mode; extra != 0 {
			if err := os.Chmod(d.Path, info.Mode().Perm()&^extra); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h Host) hookPath() string {
	etc := h.Etc
	if etc == "" {
		etc = "/etc/libvirt"
	}
	// A directory that libvirt 6.5 and newer run all of: nobody's hook is replaced.
	return filepath.Join(etc, "hooks", "qemu.d", "50-ovsactl")
}

func (h Host) hookState() Hook {
	have, err := os.ReadFile(h.hookPath())
	if err != nil {
		return HookAbsent
	}
	info, err := os.Stat(h.hookPath())
	if err != nil {
		return HookAbsent
	}
	want, err := h.hook().Script()
	if err != nil || string(have) != want || info.Mode().Perm()&0o111 == 0 {
		return HookOther
	}
	return HookCurrent
}

func (h Host) hook() packaging.Hook {
	return packaging.Hook{Program: h.Program, DataDir: h.DataDir, TPM: h.TPM}
}

// InstallHook installs the libvirt hook that renews vTPM bindings. libvirt sees
// a first hook when it starts next.
func (h Host) InstallHook() error {
	script, err := h.hook().Script()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.hookPath()), 0o755); err != nil {
		return fmt.Errorf("install libvirt hook: %w", err)
	}
	if h.hookState() == HookCurrent {
		return nil
	}
	return atomicfile.WriteFile(h.hookPath(), []byte(script), 0o755)
}

func (h Host) unitPath(name string) string {
	dir := h.Units
	if dir == "" {
		dir = "/etc/systemd/system"
	}
	return filepath.Join(dir, name)
}

// unitsState compares the units of the attestation service with those that this
// program would install.
func (h Host) unitsState() Hook {
	units, err := h.hook().AttestUnits()
	if err != nil {
		return HookOther
	}
	for _, u := range units {
		have, err := os.ReadFile(h.unitPath(u.Name))
		if err != nil {
			return HookAbsent
		}
		if string(have) != u.Text {
			return HookOther
		}
	}
	return HookCurrent
}

// InstallUnits installs the units of the attestation service, which systemd sees
// when it reloads.
func (h Host) InstallUnits() error {
	units, err := h.hook().AttestUnits()
	if err != nil {
		return err
	}
	for _, u := range units {
		if err := atomicfile.WriteFile(h.unitPath(u.Name), []byte(u.Text), 0o644); err != nil {
			return fmt.Errorf("install attestation service: %w", err)
		}
	}
	return nil
}

// startAttest installs the attestation service and has systemd listen for it, now
// and at boot. Guests that run connect to it again by themselves.
func (h Host) startAttest(ctx context.Context) error {
	if err := h.InstallUnits(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"daemon-reload"},
		{"try-restart", "ovsactl-attest.service"},
		{"enable", "--now", packaging.AttestSocketUnit},
	} {
		if err := (run.Cmd{Path: "systemctl", Args: args}).Run(ctx); err != nil {
			return fmt.Errorf("start attestation service: %w", err)
		}
	}
	return nil
}

// defaultNetwork is libvirt's own default network, for hosts whose packages
// did not define it.
const defaultNetwork = `<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
  </ip>
</network>
`

// StartNetwork makes the network "default" run, now and at boot. One that is
// defined is started as it is.
func (h Host) StartNetwork(ctx context.Context) error {
	n := network(ctx, h.URI)
	if !n.Defined {
		f, err := os.CreateTemp("", "ovsactl-network-*.xml")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString(defaultNetwork)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if _, err := virsh(ctx, h.URI, "net-define", f.Name()); err != nil {
			return fmt.Errorf("define network: %w", err)
		}
	}
	if !n.Active {
		if _, err := virsh(ctx, h.URI, "net-start", "default"); err != nil {
			return fmt.Errorf("start network: %w", err)
		}
	}
	if !n.Autostart {
		if _, err := virsh(ctx, h.URI, "net-autostart", "default"); err != nil {
			return fmt.Errorf("start network at boot: %w", err)
		}
	}
	return nil
}

// startLibvirt starts the daemon, or restarts one that has not seen the hook.
// Guests are not disturbed.
func (h Host) startLibvirt(ctx context.Context, f Facts) error {
	if f.Systemd {
		if err := (run.Cmd{Path: "systemctl", Args: []string{"enable", "libvirtd.service"}}).Run(ctx); err != nil {
			return err
		}
		return run.Cmd{Path: "systemctl", Args: []string{"restart", "libvirtd.service"}}.Run(ctx)
	}
	if f.Libvirt.Up {
		if err := stopDaemon(ctx, "/run/libvirtd.pid"); err != nil {
			return fmt.Errorf("restart libvirtd: %w", err)
		}
	} else if err := (run.Cmd{Path: "virtlogd", Args: []string{"-d"}}).Run(ctx); err != nil {
		return err
	}
	return run.Cmd{Path: "libvirtd", Args: []string{"-d"}}.Run(ctx)
}

func virsh(ctx context.Context, uri string, args ...string) ([]byte, error) {
	return run.Cmd{Path: "virsh", Args: append([]string{"-q", "-c", uri}, args...)}.Output(ctx)
}

func apt(ctx context.Context, args ...string) error {
	err := run.Cmd{
		Path: "apt-get", Args: append([]string{"-q", "-y"}, args...),
		Env: []string{"DEBIAN_FRONTEND=noninteractive"},
	}.Run(ctx)
	if err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}
