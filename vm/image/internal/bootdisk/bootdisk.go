// Package bootdisk turns the root file system of a Linux guest into a disk that
// UEFI boots: GPT, an EFI system partition with a unified kernel image, ext4.
// It mounts nothing.
package bootdisk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
	"github.com/ovsactl/ovsactl/vm/image/internal/uki"
)

// Names of the files that [Make] leaves in its output directory.
const (
	DiskName    = "disk.qcow2"
	KernelName  = "vmlinuz"
	InitrdName  = "initrd"
	CmdlineName = "cmdline"
)

// Spec is one disk to make.
type Spec struct {
	Root    string   // directory with the root file system, kernel and systemd-boot-efi in it
	Size    uint64   // bytes of the whole disk
	Label   string   // of the root file system
	Seed    [32]byte // partition and file system UUIDs are derived from it
	Cmdline string   // of the kernel, after root=
	// Initrd makes the initrd for a kernel of the tree; nil: the tree's own.
	Initrd func(tree fs.FS, kernel string) ([]byte, error)
}

const (
	mib        = 1 << 20
	sector     = 512
	espStart   = 1 * mib
	espMinSize = 64 * mib
	gptTail    = 1 * mib // the backup header at the end

	typeESP  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRoot = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" // root, x86-64
	stubPath = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
)

// Needs lists what Make runs.
func Needs() []tool.Need {
	return []tool.Need{
		{Name: "sfdisk", Package: "fdisk"},
		{Name: "mke2fs", Package: "e2fsprogs"},
		{Name: "mformat", Package: "mtools"},
		{Name: "mmd", Package: "mtools"},
		{Name: "mcopy", Package: "mtools"},
		{Name: "qemu-img", Package: "qemu-utils"},
	}
}

// Make writes the disk, and the kernel, initrd and command line for booting it
// without firmware, into the directory out. stage is told what it is about to do.
func Make(ctx context.Context, spec Spec, out string, stage func(string)) error {
	b := builder{spec: spec, out: out, raw: filepath.Join(out, "disk.raw")}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"kernel image", b.unifiedKernel},
		{"partitions", b.partition},
		{"boot partition", b.fillESP},
		{"root file system", b.fillRoot},
		{"convert to qcow2", b.convert},
	}
	for _, s := range steps {
		stage(s.name)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("make %s: %w", s.name, err)
		}
	}
	return nil
}

type builder struct {
	spec    Spec
	out     string
	raw     string
	espSize uint64
}

func (b *builder) ukiPath() string { return filepath.Join(b.out, "uki.efi") }

// cmdline is the kernel's whole command line.
func (b *builder) cmdline() string {
	return strings.TrimSpace("root=PARTLABEL=" + b.rootName() + " " + b.spec.Cmdline)
}

// rootName is the root partition's name, as good as its UUID, and one that the
// kernel tells to whoever has no blkid(8).
func (b *builder) rootName() string {
	return "root-" + strings.ReplaceAll(b.uuid("root"), "-", "")[:16]
}

// unifiedKernel copies kernel and initrd out of the tree and joins them with
// the stub.
func (b *builder) unifiedKernel(context.Context) error {
	dir, err := os.OpenRoot(b.spec.Root)
	if err != nil {
		return err
	}
	defer dir.Close()
	tree := dir.FS()
	kernelPath, version, err := findKernel(tree)
	if err != nil {
		return err
	}
	var inputs [3][]byte
	for i, name := range []string{stubPath, "usr/lib/os-release", kernelPath} {
		if inputs[i], err = fs.ReadFile(tree, name); err != nil {
			return err
		}
	}
	initrd, err := b.initrd(tree, version)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	cmdline := b.cmdline()
	image, err := uki.Append(inputs[0], []uki.Section{
		{Name: ".osrel", Data: inputs[1]},
		{Name: ".cmdline", Data: append([]byte(cmdline), 0)},
		{Name: ".uname", Data: []byte(version)},
		{Name: ".initrd", Data: initrd},
		{Name: ".linux", Data: inputs[2]},
	})
	if err != nil {
		return err
	}
	b.espSize = max(espMinSize, roundUp(uint64(len(image))*3/2, mib))
	return errors.Join(
		os.WriteFile(b.ukiPath(), image, 0o600),
		os.WriteFile(filepath.Join(b.out, KernelName), inputs[2], 0o644),
		os.WriteFile(filepath.Join(b.out, InitrdName), initrd, 0o644),
		os.WriteFile(filepath.Join(b.out, CmdlineName), []byte(cmdline+"\n"), 0o644),
	)
}

func (b *builder) initrd(tree fs.FS, version string) ([]byte, error) {
	if b.spec.Initrd != nil {
		return b.spec.Initrd(tree, version)
	}
	return fs.ReadFile(tree, "boot/initrd.img-"+version)
}

// findKernel returns the tree's newest kernel and its version.
func findKernel(tree fs.FS) (name, version string, err error) {
	names, err := fs.Glob(tree, "boot/vmlinuz-*")
	if err != nil || len(names) == 0 {
		return "", "", errors.New("the packages brought no kernel")
	}
	slices.Sort(names)
	name = names[len(names)-1]
	return name, strings.TrimPrefix(path.Base(name), "vmlinuz-"), nil
}

func (b *builder) rootStart() uint64 { return espStart + b.espSize }

func (b *builder) rootSize() uint64 { return b.spec.Size - b.rootStart() - gptTail }

func (b *builder) partition(ctx context.Context) error {
	used, err := treeSize(b.spec.Root)
	if err != nil {
		return err
	}
	if need := roundUp(used*5/4+b.rootStart()+gptTail+64*mib, mib); b.spec.Size%mib != 0 || b.spec.Size < need {
		return hint.Wrap(fmt.Errorf("a disk of %d MiB is too small for the packages", b.spec.Size/mib),
			"set `size` of the image to at least %d MiB, a whole number of MiB", need/mib)
	}
	f, err := os.Create(b.raw)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(b.spec.Size)), f.Close()); err != nil {
		return err
	}
	script := fmt.Sprintf("label: gpt\nlabel-id: %s\nstart=%d, size=%d, type=%s, uuid=%s, name=\"ESP\"\nstart=%d, size=%d, type=%s, uuid=%s, name=\"%s\"\n",
		b.uuid("disk"),
		espStart/sector, b.espSize/sector, typeESP, b.uuid("esp"),
		b.rootStart()/sector, b.rootSize()/sector, typeRoot, b.uuid("root"), b.rootName())
	return tool.Run(ctx, run.Cmd{
		Path: "sfdisk", Args: []string{"--quiet", "--no-reread", "--no-tell-kernel", b.raw},
		Stdin: strings.NewReader(script),
	})
}

func (b *builder) fillESP(ctx context.Context) error {
	drive := fmt.Sprintf("%s@@%d", b.raw, espStart)
	for _, c := range []run.Cmd{
		{Path: "mformat", Args: []string{"-i", drive, "-F", "-T", fmt.Sprint(b.espSize / sector), "-h", "255", "-s", "63",
			"-H", fmt.Sprint(espStart / sector), "-c", "1", "-N", fmt.Sprintf("%x", b.spec.Seed[:4]), "-v", "ESP", "::"}},
		{Path: "mmd", Args: []string{"-i", drive, "::/EFI", "::/EFI/BOOT"}},
		{Path: "mcopy", Args: []string{"-i", drive, b.ukiPath(), "::/EFI/BOOT/BOOTX64.EFI"}},
	} {
		c.Env = []string{"MTOOLS_SKIP_CHECK=1", "MTOOLSRC=/dev/null"}
		if err := tool.Run(ctx, c); err != nil {
			return err
		}
	}
	return os.Remove(b.ukiPath())
}

func (b *builder) fillRoot(ctx context.Context) error {
	return tool.Run(ctx, run.Cmd{
		Path: "mke2fs",
		Args: []string{
			"-q", "-F", "-t", "ext4", "-d", b.spec.Root, "-L", b.spec.Label, "-U", b.uuid("fs"), "-m", "1",
			"-E", fmt.Sprintf("offset=%d,hash_seed=%s,root_owner=0:0,lazy_itable_init=1", b.rootStart(), b.uuid("hash")),
			b.raw, fmt.Sprintf("%dk", b.rootSize()/1024),
		},
		Stdout: io.Discard,
	})
}

// convert compresses: half of the bytes are to be kept and uploaded, and a guest
// starts no later.
func (b *builder) convert(ctx context.Context) error {
	err := tool.Run(ctx, run.Cmd{
		Path: "qemu-img",
		Args: []string{
			"convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", "-W",
			b.raw, filepath.Join(b.out, DiskName),
		},
	})
	return errors.Join(err, os.Remove(b.raw))
}

// uuid derives a version 8 UUID for one part of the disk from the seed.
func (b *builder) uuid(part string) string {
	h := sha256.Sum256(append(b.spec.Seed[:], part...))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// treeSize adds up what the tree's files take in blocks of 4 KiB.
func treeSize(root string) (uint64, error) {
	var total uint64
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += 256 // its inode
		if info.Mode().IsRegular() || info.IsDir() {
			total += roundUp(uint64(info.Size()), 4096)
		}
		return nil
	})
	return total, err
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }
