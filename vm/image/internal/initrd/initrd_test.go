package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

const (
	version = "6.12.0-test"
	modules = "usr/lib/modules/" + version + "/"
	loader  = "lib64/ld-linux-x86-64.so.2"
)

// tree is the least root file system that an initrd can be made from. The
// machine's own shell stands in for klibc's programs: it has an interpreter, too.
func tree(t *testing.T) fstest.MapFS {
	t.Helper()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	m := fstest.MapFS{
		loader: {Data: []byte("the loader")},
		modules + "modules.dep": {Data: []byte(`kernel/block/virtio_blk.ko:
kernel/virtio/virtio_pci.ko:
kernel/net/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko
kernel/net/net_failover.ko.xz: kernel/net/failover.ko
kernel/net/failover.ko:
`)},
		modules + "modules.builtin":               {Data: []byte("kernel/fs/ext4.ko\n")},
		modules + "modules.devname":               {Data: []byte("# comment\ntun net/tun c10:200\nloop loop-control c10:237\nx x b7:65536\n")},
		modules + "kernel/virtio/virtio_pci.ko":   {Data: []byte("virtio_pci")},
		modules + "kernel/block/virtio_blk.ko":    {Data: []byte("virtio_blk")},
		modules + "kernel/net/virtio_net.ko.xz":   {Data: packed(t, "virtio_net")},
		modules + "kernel/net/net_failover.ko.xz": {Data: packed(t, "net_failover")},
		modules + "kernel/net/failover.ko":        {Data: []byte("failover")},
		modules + "kernel/net/unrelated.ko":       {Data: []byte("unrelated")},
	}
	for _, name := range programs() {
		m[klibcDir+"/"+name] = &fstest.MapFile{Data: shell}
	}
	return m
}

func packed(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contents unpacks an archive with cpio(1), which nobody here wrote: the names in
// order, and for each its type, mode, numbers and text.
func contents(t *testing.T, archive []byte) (names []string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	var list bytes.Buffer
	for _, args := range [][]string{{"--quiet", "-t"}, {"--quiet", "-idm", "--no-absolute-filenames"}} {
		if err := (run.Cmd{Path: "cpio", Args: args, Dir: dir, Stdin: bytes.NewReader(archive), Stdout: &list}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names = strings.Fields(list.String())
	files = make(map[string]string)
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		files[name] = fmt.Sprintf("%06o %d:%d", st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = fmt.Sprintf("%06o %s", st.Mode, text)
		}
		if st.Uid != 0 || st.Gid != 0 || st.Mtim.Sec != 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
			t.Errorf("%s: %+v", name, st)
		}
	}
	return names, files
}

func TestMake(t *testing.T) {
	need.Root(t) // only root unpacks devices
	archive, err := Make(tree(t), version)
	if err != nil {
		t.Fatal(err)
	}
	names, files := contents(t, archive)
	for file, want := range map[string]string{
		// Each behind what it needs, and as insmod takes it.
		"modules/00-virtio_pci.ko":   "100644 virtio_pci",
		"modules/01-virtio_blk.ko":   "100644 virtio_blk",
		"modules/02-failover.ko":     "100644 failover",
		"modules/03-net_failover.ko": "100644 net_failover",
		"modules/04-virtio_net.ko":   "100644 virtio_net",
		loader:                       "100755 the loader",
		"init":                       "100755 " + string(script),
		"root":                       "040755 0:0",
	} {
		if files[file] != want {
			t.Errorf("%s is %.40q, want %.40q", file, files[file], want)
		}
	}
	if len(files) != 6+1+len(programs())+5+1+2 { // directories, init, programs, modules, nodes, the loader and its directory
		t.Errorf("files %q", names)
	}
	if len(files) != len(names) {
		t.Errorf("a name twice in %q", names)
	}
	if slices.Index(names, "lib64") > slices.Index(names, loader) {
		t.Errorf("a file before its directory in %q", names)
	}
	_, text, _ := strings.Cut(files["nodes"], " ")
	_, nodes := contents(t, []byte(text))
	want := map[string]string{"net": "040755 0:0", "net/tun": "020600 10:200", "loop-control": "020600 10:237", "x": "060600 7:65536"}
	if !maps.Equal(nodes, want) {
		t.Errorf("device nodes %q, want %q", nodes, want)
	}
	again, err := Make(tree(t), version)
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("the same tree gives another archive (%v)", err)
	}
}

func TestBuiltInModulesAreLeftOut(t *testing.T) {
	m := tree(t)
	m[modules+"modules.dep"] = &fstest.MapFile{Data: []byte("kernel/block/virtio_blk.ko:\n")}
	m[modules+"modules.builtin"] = &fstest.MapFile{Data: []byte("kernel/fs/ext4.ko\nkernel/net/virtio_net.ko\nkernel/virtio/virtio_pci.ko\n")}
	archive, err := Make(m, version)
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := contents(t, archive); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "modules/") && !strings.HasSuffix(n, "virtio_blk.ko") }) {
		t.Errorf("files %q", names)
	}
}

// TestMakeRefuses: an initrd that could not boot is not made.
func TestMakeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(fstest.MapFS)
		want  string
	}{
		{"no klibc", func(m fstest.MapFS) { delete(m, klibcDir+"/run-init") }, "run-init"},
		{"no loader", func(m fstest.MapFS) { delete(m, loader) }, "ld-linux"},
		{"a program that is none", func(m fstest.MapFS) { m[klibcDir+"/sh"] = &fstest.MapFile{Data: []byte("#!")} }, "klibc's sh"},
		{"another kernel", func(m fstest.MapFS) { delete(m, modules+"modules.dep") }, "modules.dep"},
		{"no such module", func(m fstest.MapFS) {
			m[modules+"modules.dep"] = &fstest.MapFile{Data: []byte("kernel/virtio/virtio_pci.ko:\nkernel/net/virtio_net.ko.xz:\n")}
		}, `no module "virtio_blk"`},
		{"no file system", func(m fstest.MapFS) { m[modules+"modules.builtin"] = &fstest.MapFile{} }, `no module "ext4"`},
		{"a module that is missing", func(m fstest.MapFS) { delete(m, modules+"kernel/net/failover.ko") }, "failover.ko"},
		{"a module that is cut", func(m fstest.MapFS) {
			whole := m[modules+"kernel/net/virtio_net.ko.xz"].Data
			m[modules+"kernel/net/virtio_net.ko.xz"] = &fstest.MapFile{Data: whole[:len(whole)-4]}
		}, "virtio_net.ko.xz"},
		{"an unknown compression", func(m fstest.MapFS) {
			m[modules+"modules.dep"] = &fstest.MapFile{Data: []byte("kernel/virtio/virtio_pci.ko:\nkernel/block/virtio_blk.ko.lzo:\nkernel/net/virtio_net.ko.xz:\n")}
			m[modules+"kernel/block/virtio_blk.ko.lzo"] = &fstest.MapFile{Data: []byte("?")}
		}, `compression ".lzo"`},
		{"a device that is none", func(m fstest.MapFS) {
			m[modules+"modules.devname"] = &fstest.MapFile{Data: []byte("tun net/tun p10:200\n")}
		}, `line "tun net/tun p10:200"`},
		{"a device outside of /dev", func(m fstest.MapFS) {
			m[modules+"modules.devname"] = &fstest.MapFile{Data: []byte("tun ../tun c10:200\n")}
		}, `line "tun ../tun c10:200"`},
		{"a list that is none", func(m fstest.MapFS) { m[modules+"modules.dep"] = &fstest.MapFile{Data: []byte("?\n")} }, `line "?"`},
	} {
		m := tree(t)
		tt.spoil(m)
		if _, err := Make(m, version); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
