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
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// What a launcher has open.
const (
	deviceFD = 3 // /dev/fuse
	tellFD   = 4 // gets the mount's number, and a newline
)

// Launch becomes an engine: it is what a Command's launcher calls with the arguments
// behind its own. It mounts the models in the namespace that it is in, which is its
// own, gives up all rights, and executes the engine. It returns when it cannot.
func Launch(args []string) error {
	if len(args) < 4 {
		return errors.New("launch the engine: want DIR UID GID PROGRAM [ARGUMENT...]")
	}
	dir, program := args[0], args[3]
	var ids [2]uint32
	for i := range ids {
		id, err := strconv.ParseUint(args[i+1], 10, 32)
		if err != nil {
			return fmt.Errorf("launch the engine: %w", err)
		}
		ids[i] = uint32(id)
	}
	path, found := program, true
	if !strings.Contains(program, "/") {
		path, found = run.Find(program, os.Getenv("PATH"))
	}
	if !found {
		return fmt.Errorf("launch the engine: there is no program %q in %q", program, os.Getenv("PATH"))
	}
	if err := enclose(dir, ids[0], ids[1]); err != nil {
		return fmt.Errorf("launch the engine: %w", err)
	}
	signal.Reset()
	return fmt.Errorf("launch the engine: execute %q: %w", path, unix.Exec(path, args[3:], []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C.UTF-8"}))
}

// enclose makes this process one that sees the models and has no rights.
func enclose(dir string, uid, gid uint32) error {
	// What is set for one thread alone goes to the engine by this one.
	runtime.LockOSThread()
	// Nor does it get what whoever started this process left open.
	if err := unix.CloseRange(deviceFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close files: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to itself: %w", err)
	}
	// Of other processes it sees nothing.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
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
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new rights: %w", err)
	}
	// Becoming another user has undone it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	return nil
}
