package image_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vm/image"
)

// TestInitrdSaysWhatIsWrong: a guest whose root file system cannot be told stops,
// and its serial log says why.
func TestInitrdSaysWhatIsWrong(t *testing.T) {
	if testing.Short() {
		t.Skip("boots kernels: half a minute")
	}
	need.Programs(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap", "mformat", "sfdisk")
	img := builtImage(t, "trixie")
	label := regexp.MustCompile(`root=PARTLABEL=(\S+)`).FindStringSubmatch(img.Cmdline)
	if label == nil {
		t.Fatalf("command line %q", img.Cmdline)
	}
	for _, tt := range []struct {
		name    string
		cmdline string
		disks   int
		want    string
	}{
		{"no root", "console=ttyS0", 1, "initrd: no root=PARTLABEL= on the kernel's command line"},
		{"another root", "console=ttyS0 root=PARTLABEL=other", 1, "initrd: no partition is labelled other"},
		// The disk of a copied guest, say. Which of them it would be is chance.
		{"two roots", img.Cmdline, 2, "are both labelled " + label[1] + ": detach one of their disks"},
		{"wrong flags", strings.Replace(img.Cmdline, "rootflags=", "rootflags=nonsense,", 1), 1, "initrd: mount /dev/vda2"},
		{"no init", img.Cmdline + " init=/nowhere", 1, "/nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := panicLog(t, img, tt.cmdline, tt.disks)
			if !strings.Contains(log, tt.want) || !strings.Contains(log, "Kernel panic") {
				t.Errorf("want %q in the serial log:\n%s", tt.want, log)
			}
		})
	}
}

// panicLog boots the image's kernel with overlays of its disk until it panics,
// and returns what it printed.
func panicLog(t *testing.T, img image.Image, cmdline string, disks int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	serial := filepath.Join(dir, "serial.log")
	args := []string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "file:" + serial, "-kernel", img.Kernel, "-initrd", img.Initrd, "-append", cmdline + " panic=-1",
	}
	for i := range disks {
		disk := filepath.Join(dir, "disk"+string(rune('0'+i)))
		if err := (run.Cmd{Path: "qemu-img", Args: []string{
			"create", "-q", "-f", "qcow2", "-F", img.Format, "-b", img.Path, disk,
		}}).Run(ctx); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=virtio,format=qcow2,file="+disk)
	}
	if err := (run.Cmd{Path: "qemu-system-x86_64", Args: args}).Run(ctx); err != nil {
		t.Errorf("the guest did not stop: %v", err)
	}
	log, err := os.ReadFile(serial)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}
