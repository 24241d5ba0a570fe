package hosting

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/internal/seccomp"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// What a launcher has open.
const (
	deviceFD = 3 // /dev/fuse
	tellFD   = 4 // gets the mount's number, and a newline
	socketFD = 5 // the first of the sockets
)

// launchArguments are those of Launch, before the engine's.
func launchArguments(c Command, sockets int) []string {
	number := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	return []string{c.Dir, number(c.UID), number(c.GID), strconv.Itoa(sockets)}
}

// Launch becomes an engine: it is what a Command's launcher calls with the arguments
// behind its own. It mounts the models in the namespace that it is in, which is its
// own, gives up all rights, and executes the engine. It returns when it cannot.
func Launch(args []string) error { return fmt.Errorf("launch the engine: %w", launch(args)) }

func launch(args []string) error {
	const ours = 4
	if len(args) <= ours {
		return errors.New("want DIR UID GID SOCKETS PROGRAM [ARGUMENT...]")
	}
	dir, engine := args[0], args[ours:]
	var numbers [ours - 1]uint32
	for i := range numbers {
		n, err := strconv.ParseUint(args[i+1], 10, 32)
		if err != nil {
			return err
		}
		numbers[i] = uint32(n)
	}
	path, found := engine[0], true
	if !strings.Contains(path, "/") {
		path, found = run.Find(path, os.Getenv("PATH"))
	}
	if !found {
		return fmt.Errorf("there is no program %q in %q", engine[0], os.Getenv("PATH"))
	}
	// What is set for one thread alone goes to the engine by this one.
	runtime.LockOSThread()
	if err := enclose(dir, numbers[0], numbers[1]); err != nil {
		return err
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C.UTF-8"}
	given, err := giveSockets(int(numbers[2]))
	if err != nil {
		return err
	}
	signal.Reset()
	if err := seccomp.Refuse(seccomp.Powerful()); err != nil {
		return err
	}
	return fmt.Errorf("execute %q: %w", path, unix.Exec(path, engine, append(env, given...)))
}

// giveSockets puts the sockets where sd_listen_fds(3) has a program look for them, and
// returns what tells it of them.
func giveSockets(n int) (env []string, err error) {
	if n == 0 {
		return nil, nil
	}
	const first = 3
	for i := range n {
		if err := unix.Dup3(socketFD+i, first+i, 0); err != nil {
			return nil, fmt.Errorf("give the sockets: %w", err)
		}
	}
	names := []string{"http", "grpc"}[:n]
	return []string{fmt.Sprintf("LISTEN_PID=%d", os.Getpid()), fmt.Sprintf("LISTEN_FDS=%d", n), "LISTEN_FDNAMES=" + strings.Join(names, ":")}, nil
}

// enclose makes this process one that sees the models and has no rights.
func enclose(dir string, uid, gid uint32) error {
	// The engine does not get what whoever started this process left open.
	if err := unix.CloseRange(deviceFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close files: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to itself: %w", err)
	}
	// Nothing that it writes reaches a disk.
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make file systems read-only: %w", err)
	}
	for _, scratch := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777"); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", scratch, err)
		}
	}
	// Of other processes it sees nothing.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // below one of those it is hidden
		return err
	}
	device, tell := os.NewFile(deviceFD, "/dev/fuse"), os.NewFile(tellFD, "pipe")
	number, err := modelfs.Attach(device, dir, uid, gid)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(tell, number); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("do without core dumps: %w", err)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(int(gid), int(gid), int(gid))); err != nil {
		return fmt.Errorf("become group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	// Becoming another user has undone it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	return nil
}
