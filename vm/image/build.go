package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vm/image/guest"
	"github.com/ovsactl/ovsactl/vm/image/internal/bootdisk"
	"github.com/ovsactl/ovsactl/vm/image/internal/initrd"
	"github.com/ovsactl/ovsactl/vm/image/internal/rootfs"
	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
)

const (
	// kernelArgs follow root= on the kernel's command line. The last console is
	// the one that systemd and its log go to; the kernel's warnings go there, and
	// all of its log to the journal. The security modules are Debian's without
	// TOMOYO and IPE, which have no policy here, and without BPF's: systemd would
	// load a program into it at every start, which takes seconds without KVM. The
	// tests that the kernel makes of its ciphers are off, as they are upstream.
	kernelArgs = "rootflags=discard console=tty0 console=ttyS0,115200 quiet cryptomgr.notests " +
		"lsm=landlock,lockdown,yama,integrity,apparmor,ima,evm"

	rootLabel = "ovsa-root"

	// buildSpace is what a build needs beside the packages that the user adds:
	// the tree, the raw disk and the converted one, all sparse.
	buildSpace      = 1536 << 20
	spacePerPackage = 50 << 20
)

// basePackages are in every built image.
func basePackages(suite string) []string {
	packages := []string{
		"ca-certificates", "dbus", "initramfs-tools", "iproute2", "libnss-myhostname",
		"linux-image-cloud-amd64", "openssh-server", "sudo", "systemd", "systemd-boot-efi",
		"systemd-resolved", "systemd-sysv", "tpm-udev", "udev", "zstd",
	}
	if suite != "bookworm" { // there it is part of systemd
		packages = append(packages, "systemd-repart")
	}
	return packages
}

// build makes a disk from packages in the directory out, working in tmp.
func (c *Cache) build(ctx context.Context, b Build, tmp, out string, progress Progress) (meta, error) {
	needs := append(rootfs.Needs(), bootdisk.Needs()...)
	if err := tool.Check(needs); err != nil {
		return meta{}, err
	}
	if err := checkSpace(tmp, buildSpace+int64(len(b.Packages))*spacePerPackage); err != nil {
		return meta{}, err
	}
	root := filepath.Join(tmp, "root")
	progress("install packages", 0, 0)
	spec := rootfs.Spec{
		Suite: b.Suite, Mirror: b.Mirror,
		Packages: slices.Compact(slices.Sorted(slices.Values(append(basePackages(b.Suite), b.Packages...)))),
	}
	err := rootfs.Bootstrap(ctx, spec, root, func(line string) {
		if what, ok := strings.CutPrefix(line, "I: "); ok {
			progress("install packages: "+strings.TrimSuffix(what, "..."), 0, 0)
		}
	})
	if err != nil {
		return meta{}, err
	}
	progress("configure", 0, 0)
	if err := customize(ctx, root, b.Disabled); err != nil {
		return meta{}, fmt.Errorf("configure the image: %w", err)
	}
	return c.makeDisk(ctx, b, root, out, progress)
}

// origin says what an image was made from.
func (b Build) origin() string {
	if len(b.Packages) == 0 {
		return "build " + b.Suite
	}
	return "build " + b.Suite + ", with " + strings.Join(b.Packages, " ")
}

func (c *Cache) makeDisk(ctx context.Context, b Build, root, out string, progress Progress) (meta, error) {
	spec := bootdisk.Spec{Root: root, Size: b.Size, Label: rootLabel, Cmdline: kernelArgs, Initrd: initrd.Make}
	if _, err := hex.Decode(spec.Seed[:], []byte(hexOf(b.Digest()))); err != nil {
		return meta{}, err
	}
	if err := bootdisk.Make(ctx, spec, out, func(stage string) { progress(stage, 0, 0) }); err != nil {
		return meta{}, err
	}
	cmdline, err := os.ReadFile(filepath.Join(out, bootdisk.CmdlineName))
	if err != nil {
		return meta{}, err
	}
	return meta{
		Disk: bootdisk.DiskName, Format: "qcow2", Virtual: b.Size, FirstBoot: Credentials,
		Origin: b.origin(),
		Kernel: bootdisk.KernelName, Initrd: bootdisk.InitrdName,
		Cmdline: strings.TrimSpace(string(cmdline)),
	}, nil
}

// customize makes the tree at dir a guest of ours.
func customize(ctx context.Context, dir string, disabled []string) error {
	root, err := rootfs.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Run(ctx, "useradd", "--create-home", "--shell", "/bin/bash", "--groups", "tss", guest.User); err != nil {
		return err
	}
	for _, f := range guest.Files() {
		if err := root.Write(f.Path, f.Data, f.Mode); err != nil {
			return err
		}
	}
	for _, path := range guest.Hidden() {
		if err := root.Symlink("/dev/null", path); err != nil {
			return err
		}
	}
	for _, path := range guest.Removed() {
		if err := root.Remove(path); err != nil {
			return err
		}
	}
	for verb, units := range map[string][]string{"enable": guest.Enable(), "mask": guest.Mask()} {
		if err := root.Run(ctx, append([]string{"systemctl", "--quiet", verb}, units...)...); err != nil {
			return err
		}
	}
	for _, unit := range disabled {
		if err := root.Run(ctx, "systemctl", "--quiet", "disable", unit); err != nil {
			return err
		}
	}
	return errors.Join(
		root.Run(ctx, "systemctl", "--quiet", "set-default", "multi-user.target"),
		root.Symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"),
		root.ForgetBuilder(),
	)
}

// checkSpace refuses to begin what the file system of dir cannot hold.
func checkSpace(dir string, need int64) error {
	free, err := freeSpace(dir)
	if err != nil || free >= need {
		return err
	}
	return hint.Wrap(fmt.Errorf("%d MiB are free in %q, this needs %d MiB", free>>20, filepath.Dir(dir), need>>20),
		"make room there, or free old images: ovsactl image prune")
}
