package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"
)

// denied says in a sentence that the user as whom libvirt runs QEMU may not open
// the device, and what to do; "" when it may, or when that cannot be told.
//
// Such a host has no KVM for guests, whatever a probe by another user says, and
// libvirt 9.0 takes the difference for news: it asks QEMU for its capabilities
// again some twenty times in every define.
func denied(capabilities, device string) (string, error) {
	uid, gid, ok := qemuUser(capabilities)
	if !ok {
		return "", nil
	}
	info, err := os.Stat(device)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", device, err)
	}
	if n, err := unix.Getxattr(device, "system.posix_acl_access", nil); err == nil && n > 0 {
		return "", nil // an access list may let it in
	}
	name, groups := strconv.Itoa(uid), []int{gid}
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
		ids, err := u.GroupIds()
		if err != nil {
			return "", fmt.Errorf("groups of %s: %w", name, err)
		}
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				groups = append(groups, n)
			}
		}
	}
	stat := info.Sys().(*syscall.Stat_t)
	if uid == 0 || opens(info.Mode(), int(stat.Uid), int(stat.Gid), uid, groups) {
		return "", nil
	}
	group := strconv.Itoa(int(stat.Gid))
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("%s, as whom libvirt runs QEMU, may not open %s, so guests are emulated, and libvirt probes QEMU again in every define, which takes some 16 s: "+
		"`usermod -aG %s %s`, then restart libvirtd", name, device, group, name), nil
}

// qemuUser reads from libvirt's capabilities as whom it runs QEMU: the base label
// of its DAC security model, "+UID:+GID" (libvirt.org/formatcaps.html). false
// where it labels nothing: a session daemon, another hypervisor.
func qemuUser(capabilities string) (uid, gid int, ok bool) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return 0, 0, false
	}
	for _, model := range caps.Host.SecModel {
		for _, label := range model.Labels {
			u, g, cut := strings.Cut(label.Value, ":")
			if model.Name != "dac" || label.Type != "kvm" || !cut {
				continue
			}
			uid, uerr := strconv.Atoi(strings.TrimPrefix(u, "+"))
			gid, gerr := strconv.Atoi(strings.TrimPrefix(g, "+"))
			return uid, gid, uerr == nil && gerr == nil
		}
	}
	return 0, 0, false
}

// opens applies the mode bits of a file of owner and group, for reading and
// writing, as the kernel does: the first class that fits decides.
func opens(mode fs.FileMode, owner, group, uid int, groups []int) bool {
	const readWrite = 0o6
	switch {
	case uid == owner:
		mode >>= 6
	case slices.Contains(groups, group):
		mode >>= 3
	}
	return mode&readWrite == readWrite
}
