// Package initrd makes the initrd of our images. All it has to do is to mount an
// ext4 partition of a virtio disk: a shell script with klibc's shell and
// programs, half a megabyte in all, beside some thirty of a general initrd. The
// firmware reads and hashes an initrd several times, and the kernel unpacks it,
// before a guest does anything else.
package initrd

import (
	"bufio"
	"bytes"
	"debug/elf"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/ulikunitz/xz"
)

//go:embed init
var script []byte

// programs are those of klibc-utils that the script runs.
func programs() []string { return []string{"sh", "insmod", "mount", "run-init", "sleep"} }

// drivers are loaded before the root file system is looked for. The network card
// would be found by udev, too, but much later.
func drivers() []string { return []string{"virtio_blk", "virtio_net"} }

const (
	klibcDir = "usr/lib/klibc/bin"
	maxFile  = 64 << 20 // of one file, uncompressed
)

// Digest returns what identifies this package's part in an initrd: the script,
// and what goes with it.
func Digest() []byte {
	return []byte(strings.Join(append(append(programs(), drivers()...), string(script)), "\n"))
}

// Make returns the initrd for the kernel version (as uname -r has it) of the root
// file system tree, which needs klibc-utils: a newc cpio archive, not compressed.
// It mounts root=PARTLABEL= with rootflags= and starts init=, all from the
// kernel's command line. The same tree gives the same bytes.
func Make(tree fs.FS, version string) ([]byte, error) {
	var a archive
	for _, dir := range []string{"bin", "dev", "modules", "proc", "root", "sys"} {
		a.dir(dir)
	}
	a.file("init", 0o755, script)
	for _, name := range programs() {
		data, err := fs.ReadFile(tree, path.Join(klibcDir, name))
		if err != nil {
			return nil, fmt.Errorf("klibc: %w", err)
		}
		a.file("bin/"+name, 0o755, data)
		if err := a.interpreter(tree, data); err != nil {
			return nil, fmt.Errorf("klibc's %s: %w", name, err)
		}
	}
	order, err := loadOrder(tree, version, drivers())
	if err != nil {
		return nil, err
	}
	for i, file := range order {
		data, err := module(tree, file)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", path.Base(file), err)
		}
		name, _, _ := strings.Cut(path.Base(file), ".")
		a.file(fmt.Sprintf("modules/%02d-%s.ko", i, name), 0o644, data)
	}
	return a.bytes()
}

// interpreter adds the file that the kernel starts to run an ELF program:
// klibc's shared library is that, too.
func (a *archive) interpreter(tree fs.FS, program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		raw, err := io.ReadAll(p.Open())
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(string(bytes.TrimRight(raw, "\x00")), "/")
		data, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		for _, dir := range parents(file) {
			a.dir(dir)
		}
		a.file(file, 0o755, data)
	}
	return nil
}

// loadOrder returns the files of the modules and of those that they need, each
// behind what it needs, from modules.dep(5). What is built into the kernel is
// left out.
func loadOrder(tree fs.FS, version string, modules []string) ([]string, error) {
	dir := path.Join("usr/lib/modules", version)
	needs, err := dependencies(tree, path.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	builtin, err := fs.ReadFile(tree, path.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	var order []string
	for _, want := range modules {
		files, ok := needs[want]
		if !ok && bytes.Contains(builtin, []byte("/"+want+".ko\n")) {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("kernel %s has no module %q", version, want)
		}
		for _, f := range slices.Backward(files) { // itself first, then what it needs
			if f = path.Join(dir, f); !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

// dependencies reads modules.dep: for each module its file and those it needs.
func dependencies(tree fs.FS, name string) (map[string][]string, error) {
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	needs := make(map[string][]string)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		file, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return nil, fmt.Errorf("%s: line %.60q", name, lines.Text())
		}
		module, _, _ := strings.Cut(path.Base(file), ".ko")
		needs[module] = append([]string{file}, strings.Fields(rest)...)
	}
	return needs, lines.Err()
}

// module reads a kernel module. It is decompressed here, once: klibc's insmod
// hands on what it reads, and to unpack costs a guest more than to read.
func module(tree fs.FS, file string) ([]byte, error) {
	f, err := tree.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch path.Ext(file) {
	case ".ko":
	case ".xz":
		if r, err = xz.NewReader(bufio.NewReader(f)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("compression %q is not known", path.Ext(file))
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("over %d MiB", maxFile>>20)
	}
	return data, err
}

// archive collects files in the order of their adding; each name once.
type archive struct {
	entries []entry
}

type entry struct {
	name string
	mode cpio.FileMode
	data []byte
}

func (a *archive) dir(name string) { a.add(entry{name, cpio.TypeDir | 0o755, nil}) }

func (a *archive) file(name string, mode cpio.FileMode, data []byte) {
	a.add(entry{name, cpio.TypeReg | mode, data})
}

func (a *archive) add(e entry) {
	if !slices.ContainsFunc(a.entries, func(old entry) bool { return old.name == e.name }) {
		a.entries = append(a.entries, e)
	}
}

func (a *archive) bytes() ([]byte, error) {
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	for i, e := range a.entries {
		links := 1
		if e.mode.IsDir() {
			links = 2
		}
		h := &cpio.Header{
			Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Links: links,
			Inode: int64(i + 1), ModTime: time.Unix(0, 0),
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// parents are the directories above a file, the outermost first.
func parents(file string) []string {
	var dirs []string
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}
