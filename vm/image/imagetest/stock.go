// Package imagetest has images for tests that are not ours.
package imagetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/vm/image/internal/bootdisk"
	"github.com/ovsactl/ovsactl/vm/image/internal/rootfs"
	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
)

const (
	stockSuite = "trixie"
	stockSize  = 3 << 30
	stockFstab = "LABEL=cloudimg-root / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n"
	stockArgs  = "console=tty0 console=ttyS0,115200"
)

// stockPackages are those of Debian's own cloud images that matter here: the
// kernel, cloud-init with what it grows the disk with, SSH. None is ours.
func stockPackages() []string {
	return []string{
		"ca-certificates", "cloud-guest-utils", "cloud-init", "dbus", "fdisk", "initramfs-tools",
		"iproute2", "linux-image-cloud-amd64", "openssh-server", "python3", "sudo", "systemd",
		"systemd-boot-efi", "systemd-resolved", "systemd-sysv", "udev", "zstd",
	}
}

// Needs lists the programs and files that [StockCloud] needs.
func Needs() []string {
	var names []string
	for _, n := range append(rootfs.Needs(), bootdisk.Needs()...) {
		names = append(names, n.Name)
	}
	return names
}

// StockCloud returns the path of a qcow2 image such as distributions publish
// for clouds: cloud-init, UEFI, nothing of ours in it. It builds the image in
// dir, about a minute, unless it is there; two processes build it once. It
// needs root and a package mirror.
func StockCloud(ctx context.Context, dir string) (string, error) {
	seed := sha256.Sum256([]byte(strings.Join(append(stockPackages(), "stock 2", stockSuite, stockFstab, stockArgs), " ")))
	name := "stock-cloud-" + hex.EncodeToString(seed[:8])
	path := filepath.Join(dir, name+".qcow2")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	held, err := lock.Wait(ctx, filepath.Join(dir, name+".lock"), "a test that builds a cloud image", nil)
	if err != nil {
		return "", err
	}
	defer held.Release()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := buildStock(ctx, seed, filepath.Join(dir, name+".tmp"), path); err != nil {
		return "", fmt.Errorf("build a cloud image: %w", err)
	}
	return path, nil
}

func buildStock(ctx context.Context, seed [32]byte, tmp, path string) (err error) {
	if err := tool.Check(append(rootfs.Needs(), bootdisk.Needs()...)); err != nil {
		return err
	}
	if err := os.RemoveAll(tmp); err != nil { // of a killed run
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	root := filepath.Join(tmp, "root")
	spec := rootfs.Spec{Suite: stockSuite, Packages: stockPackages(), Initrd: true}
	if err := rootfs.Bootstrap(ctx, spec, root, nil); err != nil {
		return err
	}
	if err := customizeStock(ctx, root); err != nil {
		return err
	}
	out := filepath.Join(tmp, "image")
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	disk := bootdisk.Spec{Root: root, Size: stockSize, Label: "cloudimg-root", Seed: seed, Cmdline: stockArgs}
	if err := bootdisk.Make(ctx, disk, out, func(string) {}); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(out, bootdisk.DiskName), 0o444); err != nil {
		return err
	}
	return os.Rename(filepath.Join(out, bootdisk.DiskName), path)
}

// customizeStock does what the distribution's own image build does beyond
// installing packages.
func customizeStock(ctx context.Context, dir string) error {
	root, err := rootfs.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return errors.Join(
		root.Write("/etc/fstab", []byte(stockFstab), 0o644),
		root.Run(ctx, "systemctl", "--quiet", "enable", "systemd-networkd.service", "systemd-resolved.service"),
		root.Symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"),
		root.ForgetBuilder(),
	)
}
