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

// Enable lists the units that start at boot, Mask those that must not: timers
// and services that cost start-up time and that a guest of ours has no use for.
func Enable() []string {
	return []string{
		"systemd-networkd.service", "systemd-resolved.service", "ssh.service",
		"ovsactl-identity.service", templates.AnnounceUnitName,
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
		// Of the TPM these use, each takes seconds without KVM. PCR 11 is then
		// what the firmware measured of the unified kernel image, and nothing
		// else: it can be told from the image alone.
		"systemd-pcrmachine.service", "systemd-pcrphase-initrd.service", "systemd-pcrphase-sysinit.service",
		"systemd-pcrphase.service", "systemd-tpm2-setup-early.service", "systemd-tpm2-setup.service",
	}
}

// Digest identifies everything in this package that shapes an image.
func Digest() [sha256.Size]byte {
	h := sha256.New()
	for _, f := range Files() {
		writeField(h, []byte(f.Path))
		writeField(h, []byte(f.Mode.String()))
		writeField(h, f.Data)
	}
	for _, units := range [][]string{Enable(), Mask(), {User}} {
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
