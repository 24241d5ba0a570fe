package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	kvmDevice = "/dev/kvm"
	// devices is a file system of the lab's own that may hold devices.
	devices = "/run/ovsactl/lab-devices"
)

// shareKVM gives the lab a /dev/kvm that the group kvm may open, where the
// machine's is root's alone. libvirt probes QEMU as root and then asks whether
// QEMU's own user may open the device; when the answers differ it forgets what
// it found and probes again, a second each time, twenty times per definition.
func shareKVM() error {
	var old unix.Stat_t
	if err := unix.Stat(kvmDevice, &old); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look at %s: %w", kvmDevice, err)
	}
	group, err := user.LookupGroup("kvm")
	var unknown user.UnknownGroupError
	if errors.As(err, &unknown) {
		return nil // no QEMU package here, so nobody to share it with
	}
	if err != nil {
		return fmt.Errorf("look up group kvm: %w", err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return fmt.Errorf("group kvm: %w", err)
	}
	if old.Mode&0o006 == 0o006 || old.Mode&0o060 == 0o060 && int(old.Gid) == gid {
		return nil
	}
	if err := os.MkdirAll(devices, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", devices, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("mount %s: %w", devices, err)
	}
	node := devices + "/kvm"
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(old.Rdev)); err != nil {
		return fmt.Errorf("make %s: %w", node, err)
	}
	if err := os.Chown(node, 0, gid); err != nil {
		return err
	}
	if err := os.Chmod(node, 0o660); err != nil {
		return err
	}
	if err := unix.Mount(node, kvmDevice, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", kvmDevice, err)
	}
	return nil
}

// makeExpected makes directories that libvirt's package or the system's start
// makes on a machine, inside the private ones that hide them: for the locks of
// consoles and for what guests print.
func makeExpected() error {
	for path, mode := range map[string]os.FileMode{
		"/run/lock":             0o777 | os.ModeSticky,
		"/var/log/libvirt/qemu": 0o755,
	} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}
