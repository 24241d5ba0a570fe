// Package guest holds what a built image has beyond its distribution's
// packages: configuration, units, the user. A change here changes the digest
// of every built image.
package guest

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/templates"
)

// User is the login that apply and `ovsactl ssh` use.
const User = "ovsa"

//go:embed all:root
var tree embed.FS

// File is one file of the guest's root file system.
type File struct {
	Path string // absolute
	Mode fs.FileMode
	Data []byte
}

// Files returns the files to put into the root file system, in a fixed order.
func Files() []File {
	files := []File{
		{templates.AnnounceScriptPath, 0o755, templates.AnnounceScript},
		{templates.AnnounceUnitPath, 0o644, templates.AnnounceUnit},
	}
	for _, unit := range slices.Sorted(maps.Keys(startupWeights())) {
		text := fmt.Sprintf("# Until the guest has started: see startupWeights in vm/image/guest.\n[Service]\nStartupCPUWeight=%s\n", startupWeights()[unit])
		files = append(files, File{"/etc/systemd/system/" + unit + ".d/ovsactl-startup.conf", 0o644, []byte(text)})
	}
	err := fs.WalkDir(tree, "root", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := tree.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		switch {
		case strings.HasPrefix(path, "root/etc/sudoers.d/"):
			mode = 0o440 // sudo ignores anything more open
		case strings.HasPrefix(path, "root/usr/local/lib/ovsactl/"):
			mode = 0o755
		}
		files = append(files, File{strings.TrimPrefix(path, "root"), mode, data})
		return nil
	})
	if err != nil {
		panic(err) // the tree is embedded: it reads or the program was not built
	}
	return files
}

// startupWeights gives the processor, while a guest starts, to what a login
// needs, and what is left of it to the rest (systemd.resource-control(5),
// StartupCPUWeight). Nothing waits for anything else because of it: with
// processors to spare, all of it starts at once.
func startupWeights() map[string]string {
	weights := map[string]string{
		// Components that fill the disk must not get ahead of it too far.
		"ovsactl-grow.service": "10",
	}
	for _, unit := range []string{
		"dbus.service", "getty@.service", "serial-getty@.service",
		"systemd-journal-flush.service", "systemd-journald.service", "systemd-logind.service",
		"systemd-resolved.service", "systemd-tmpfiles-setup.service", "systemd-udev-trigger.service",
		"systemd-user-sessions.service",
	} {
		weights[unit] = "1" // and not idle: whoever keeps a guest busy from its first second on does not stop it
	}
	return weights
}

// Enable lists the units that start at boot, Mask those that must not: timers
// and services that cost start-up time and that a guest of ours has no use for.
func Enable() []string {
	return []string{
		"systemd-networkd.service", "systemd-resolved.service", "ssh.service",
		"ovsactl-grow.service", "ovsactl-identity.service", "ovsactl-network.service", templates.AnnounceUnitName,
	}
}

// Mask lists the units that are switched off for good; see [Enable].
func Mask() []string {
	return []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
		"e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
		"systemd-networkd-wait-online.service", "ssh.socket",
		"systemd-network-generator.service", "systemd-pstore.service",
		"dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount",
		"sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
		"modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service",
		"modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@loop.service",
		"systemd-udev-load-credentials.service",
		"sshd-keygen.service", // ovsactl-identity.service makes the key
		"proc-sys-fs-binfmt_misc.automount", "systemd-hibernate-clear.service",
		"systemd-networkd-persistent-storage.service",
		"systemd-random-seed.service", // the firmware, the processor and virtio-rng have entropy
		"systemd-repart.service",      // ovsactl-grow.service runs it where there is something to do
		// The initrd and systemd-tmpfiles-setup.service do their work.
		"kmod-static-nodes.service", "systemd-tmpfiles-setup-dev-early.service", "systemd-tmpfiles-setup-dev.service",
		// Of the TPM these use, each takes seconds without KVM. PCR 11 is then
		// what the firmware measured of the unified kernel image, and nothing
		// else: it can be told from the image alone.
		"systemd-pcrmachine.service", "systemd-pcrphase-initrd.service", "systemd-pcrphase-sysinit.service",
		"systemd-pcrphase.service", "systemd-tpm2-setup-early.service", "systemd-tpm2-setup.service",
		"systemd-pcrextend.socket", "systemd-pcrlock.socket",
	}
}

// Removed lists what packages install and every login would run: programs for
// the message of the day, which cost it a quarter of a second without KVM.
func Removed() []string { return []string{"/etc/update-motd.d"} }

// Hidden lists the files of packages that links to /dev/null of the same names
// below /etc switch off (systemd.generator(7), tmpfiles.d(5)).
func Hidden() []string {
	var paths []string
	// Generators that find nothing to do here. One finds vsock, and loads five
	// modules for it; one takes units from whoever makes the SMBIOS tables, and
	// nobody measures those.
	for _, name := range []string{"debug", "gpt-auto", "hibernate-resume", "run", "ssh", "system-update", "tpm2"} {
		paths = append(paths, "/etc/systemd/system-generators/systemd-"+name+"-generator")
	}
	// It keeps everybody out until the last unit has started.
	return append(paths, "/etc/tmpfiles.d/systemd-nologin.conf")
}

// Digest identifies everything in this package that shapes an image.
func Digest() [sha256.Size]byte {
	h := sha256.New()
	for _, f := range Files() {
		writeField(h, []byte(f.Path))
		writeField(h, []byte(f.Mode.String()))
		writeField(h, f.Data)
	}
	for _, units := range [][]string{Enable(), Mask(), Hidden(), Removed(), {User}} {
		for _, u := range units {
			writeField(h, []byte(u))
		}
		writeField(h, nil)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// writeField writes b so that where it ends is part of what is written.
func writeField(w io.Writer, b []byte) {
	fmt.Fprintf(w, "%d:%s", len(b), b)
}
