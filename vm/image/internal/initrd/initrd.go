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
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
)

//go:embed init
var script []byte

// programs are those of klibc-utils that the script runs.
func programs() []string { return []string{"sh", "cpio", "insmod", "mount", "run-init", "sleep"} }

// drivers are loaded before the root file system is looked for. The network card
// would be found by udev, too, but much later. Most kernels have some of them
// built in, each another.
func drivers() []string { return []string{"virtio_pci", "virtio_blk", "ext4", "virtio_net"} }

const (
	klibcDir   = "usr/lib/klibc/bin"
	modulesDir = "usr/lib/modules"

	maxFile = 64 << 20 // of one file, uncompressed
)

// Digest returns what identifies this package's part in an initrd: the script,
// and what goes with it.
func Digest() []byte {
	return []byte(strings.Join(append(append(programs(), drivers()...), string(script)), "\n"))
}

// Make returns the initrd for the kernel version (as uname -r has it) of the root
// file system tree, which needs klibc-utils: a newc cpio archive, not compressed.
// It mounts root=PARTLABEL= with rootflags= and starts init=, all from the
// kernel's command line, and makes the device nodes that have the kernel load
// their modules. The same tree gives the same bytes.
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
	nodes, err := staticNodes(tree, version)
	if err != nil {
		return nil, err
	}
	a.file("nodes", 0o644, nodes)
	return a.bytes(), nil
}

// staticNodes returns an archive of the device nodes that modules of the kernel
// ask for (modules.devname: "MODULE NAME cMAJOR:MINOR"). It is one file, for
// klibc's cpio: to start mknod for each takes longer. udev gives them owners.
func staticNodes(tree fs.FS, version string) ([]byte, error) {
	name := path.Join(modulesDir, version, "modules.devname")
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	var a archive
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 || !fs.ValidPath(fields[1]) {
			return nil, fmt.Errorf("%s: line %.60q", name, line)
		}
		kind, numbers := fields[2][0], fields[2][1:]
		majorText, minorText, _ := strings.Cut(numbers, ":")
		major, majorErr := strconv.ParseUint(majorText, 10, 12)
		minor, minorErr := strconv.ParseUint(minorText, 10, 20)
		mode, ok := map[byte]uint32{'c': charDevice, 'b': blockDevice}[kind]
		if !ok || majorErr != nil || minorErr != nil {
			return nil, fmt.Errorf("%s: line %.60q", name, line)
		}
		for _, dir := range parents(fields[1]) {
			a.dir(dir)
		}
		a.add(entry{name: fields[1], mode: mode | 0o600, major: uint32(major), minor: uint32(minor)})
	}
	return a.bytes(), nil
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
	dir := path.Join(modulesDir, version)
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

// File types of st_mode (inode(7)).
const (
	directory   = 0o040000
	charDevice  = 0o020000
	blockDevice = 0o060000
	regularFile = 0o100000
)

// archive collects files in the order of their adding; each name once.
type archive struct{ entries []entry }

type entry struct {
	name         string
	mode         uint32
	data         []byte
	major, minor uint32 // of a device
}

func (a *archive) dir(name string) { a.add(entry{name: name, mode: directory | 0o755}) }

func (a *archive) file(name string, mode uint32, data []byte) {
	a.add(entry{name: name, mode: regularFile | mode, data: data})
}

func (a *archive) add(e entry) {
	if !slices.ContainsFunc(a.entries, func(old entry) bool { return old.name == e.name }) {
		a.entries = append(a.entries, e)
	}
}

// bytes is the archive in the format "newc" (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst): a header of 13
// numbers, the name and the data of each file, all aligned to 4 bytes.
func (a *archive) bytes() []byte {
	var out bytes.Buffer
	for i, e := range append(slices.Clone(a.entries), entry{name: "TRAILER!!!"}) {
		links := uint32(1)
		if e.mode&0o170000 == directory {
			links = 2
		}
		out.WriteString("070701")
		for _, field := range [...]uint32{
			uint32(i + 1), e.mode, 0, 0, links, 0, uint32(len(e.data)), 0, 0, e.major, e.minor, uint32(len(e.name) + 1), 0,
		} {
			fmt.Fprintf(&out, "%08x", field)
		}
		out.WriteString(e.name + "\x00")
		align(&out)
		out.Write(e.data)
		align(&out)
	}
	return out.Bytes()
}

func align(out *bytes.Buffer) { out.Write(make([]byte, -out.Len()&3)) }

// parents are the directories above a file, the outermost first.
func parents(file string) []string {
	var dirs []string
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}
