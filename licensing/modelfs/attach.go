package modelfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
)

const (
	fsName  = "ovsa"
	maxRead = 1 << 20 // what the kernel may ask for at once, bytes
)

// Open opens the device by which a file system is mounted and served.
func Open() (*os.File, error) { return open("/dev/fuse") }

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return nil, hint.Wrap(fmt.Errorf("show models: %w", err), "load the kernel's module: modprobe fuse; a container needs the device, too")
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(fmt.Errorf("show models: %w", err), "run it as root, in a container with --device /dev/fuse")
	case err != nil:
		return nil, fmt.Errorf("show models: %w", err)
	}
	return f, nil
}

// Attach mounts the device at dir in the caller's mount namespace, for processes of
// one user and group alone: even root's are refused. It needs CAP_SYS_ADMIN. Whatever
// is asked of it waits until it is served.
//
// A caller who shall be the only one to see it is in a namespace of its own, with
// private propagation; the mount is gone when the last process in there is.
//
// It returns the mount's number, as in "0:57": see ReadAhead.
func Attach(device *os.File, dir string, uid, gid uint32) (number string, err error) {
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,default_permissions,max_read=%d", device.Fd(), unix.S_IFDIR, uid, gid, maxRead)
	if err := unix.Mount(fsName, dir, "fuse."+fsName, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return "", fmt.Errorf("mount models at %q: %w", dir, err)
	}
	// Not by stat: whoever mounts it may not ask it anything.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look at the mount of models: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == escape.Replace(dir) { // the last is the one on top
			number = f[2]
		}
	}
	return number, nil
}

// escape is how mountinfo writes a path: see proc_pid_mountinfo(5).
var escape = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)

// ReadAhead has the kernel ask for as much at once as it can, where it only wants to
// have something soon; by itself it asks for an eighth. It is for a mount that is
// served. Without it, which needs root and a /sys that may be written to, reading is
// slower.
func ReadAhead(number string) error {
	if err := os.WriteFile("/sys/class/bdi/"+number+"/read_ahead_kb", []byte(strconv.Itoa(maxRead>>10)), 0); err != nil {
		return fmt.Errorf("read ahead: %w", err)
	}
	return nil
}
