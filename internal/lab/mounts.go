package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// private is one directory that the lab has for itself, empty and in memory.
type private struct {
	path string
	mode uint32
	size string // limit, of the machine's memory
}

// privateDirs are the directories that libvirt, QEMU, swtpm and ovsactl write
// to. /run also hides the machine's D-Bus and systemd from them.
func privateDirs(dataDir string) []private {
	return []private{
		{"/run", 0o755, "10%"},
		{"/etc/libvirt", 0o755, "1%"},
		{"/var/lib/libvirt", 0o755, "25%"},
		{"/var/log/libvirt", 0o700, "5%"},
		{"/var/log/swtpm", 0o711, "1%"},
		{"/var/cache/libvirt", 0o711, "5%"},
		{"/var/lib/swtpm-localca", 0o750, "1%"},
		{"/sys/fs/cgroup", 0o755, "1%"}, // empty: libvirt then leaves control groups alone
		{dataDir, 0o755, "50%"},
	}
}

// mountAll gives this process's mount namespace the lab's file system. The
// namespace is new, so that nothing of this is seen outside.
func mountAll(dataDir string) error {
	// First of all: what is mounted from here on stays in here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct{ fs, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.fs, m.at, m.fs, safe, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	cache, err := unix.Open(filepath.Join(dataDir, "cache"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open image cache: %w", err)
	}
	defer unix.Close(cache)
	for _, p := range privateDirs(dataDir) {
		if err := p.mount(); err != nil {
			return err
		}
	}
	if err := makeExpected(); err != nil {
		return err
	}
	if err := shareKVM(); err != nil {
		return err
	}
	at := filepath.Join(dataDir, "cache")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", cache), at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("share image cache: %w", err)
	}
	return nil
}

func (p private) mount() error {
	if err := os.MkdirAll(p.path, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	opts := fmt.Sprintf("mode=%o,size=%s", p.mode, p.size)
	var old unix.Stat_t
	if err := unix.Stat(p.path, &old); err == nil {
		opts += fmt.Sprintf(",uid=%d,gid=%d", old.Uid, old.Gid) // swtpm's own directories stay swtpm's
	}
	if err := unix.Mount("tmpfs", p.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount private %s: %w", p.path, err)
	}
	return nil
}
