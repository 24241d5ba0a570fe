package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/vm/image"
)

// limitedHere is what a kernel says when all of the test has passed in it.
const limitedHere = "memory is limited here"

// inAKernel runs TestLimits in a kernel of its own, that of the images that guests are
// made of: where the one that this runs under has its memory in groups of version 1.
func inAKernel(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a kernel: half a minute")
	}
	need.Programs(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap", "mformat", "sfdisk")
	cache := os.Getenv("OVSACTL_TEST_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	images, err := image.Open(cache, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Ensure(t.Context(), image.Source{Name: "debian", Build: &image.Build{Suite: "trixie", Size: 4 << 30}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// This test again, without a library that it would need.
	path, initrd := filepath.Join(t.TempDir(), "init"), filepath.Join(t.TempDir(), "initrd")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(initrd, archive(program), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", img.Kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(limitedHere)) {
		t.Errorf("%v: %s", err, out)
	}
}

// archive is an initrd (cpio, newc) in which a program, that needs no libraries, is
// all that there is.
func archive(program []byte) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for i, e := range []struct {
		name string
		mode int
		data []byte
	}{{"dev", 0o40755, nil}, {"proc", 0o40755, nil}, {"sys", 0o40755, nil}, {"init", 0o100755, program}, {"TRAILER!!!", 0, nil}} {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", i+1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, 0, 0, len(e.name)+1, 0, e.name)
		pad()
		b.Write(e.data)
		pad()
	}
	return b.Bytes()
}

// first is the first process of a kernel: it has what the test needs, says what came of
// it, and switches the machine off.
func first() {
	for _, m := range [][3]string{{"dev", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			fmt.Println(m[1], err)
		}
	}
	test := exec.Command("/init", "-test.run", "^TestLimits$")
	test.Env = []string{"OVSA_REQUIRE=root,cgroup2", "OVSA_TEST_CGROUP=test"}
	out, err := test.CombinedOutput()
	fmt.Printf("%s%v\n", out, err)
	if err == nil && strings.Contains(string(out), "PASS") {
		fmt.Println(limitedHere)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
