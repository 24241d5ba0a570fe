// Package owner lets files that root makes in somebody's directory be theirs. What
// an administrator does with sudo is then no obstacle to the user that a service
// runs as.
package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Give gives f, which this process has just made at path, to the user of its
// directory: whose that is or, where root lets a group write in it, the user of the
// group's name. Nothing happens when this process is not root's, or the directory
// is for root alone. f must be a new file or directory of which nobody has another
// name yet.
func Give(f *os.File, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("give %q to its directory's user: %w", path, err)
	}
	uid, gid := of(info)
	if uid == 0 {
		return nil
	}
	if err := f.Chown(uid, gid); err != nil {
		return fmt.Errorf("give %q to its directory's user: %w", path, err)
	}
	return nil
}

// of is the user, and a group, of a directory.
func of(dir fs.FileInfo) (uid, gid int) {
	stat := dir.Sys().(*syscall.Stat_t)
	uid, gid = int(stat.Uid), int(stat.Gid)
	if uid != 0 || gid == 0 || dir.Mode().Perm()&0o020 == 0 {
		return uid, gid
	}
	group, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		return 0, 0
	}
	named, err := user.Lookup(group.Name)
	if err != nil {
		return 0, 0
	}
	if uid, err = strconv.Atoi(named.Uid); err != nil {
		return 0, 0
	}
	return uid, gid
}

// Name is the user whose path is, for people: a name or, where the number has none,
// that. While there is nothing at path it is the owner of the first directory above
// it that is there; "" when that cannot be found out.
func Name(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		if parent := filepath.Dir(path); parent != path {
			return Name(parent)
		}
		return ""
	}
	uid := strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

// MkdirAll is os.MkdirAll, and gives the directories that it makes to the user of
// the first that was there.
func MkdirAll(path string, perm fs.FileMode) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
		return nil
	}
	path = filepath.Clean(path)
	if parent := filepath.Dir(path); parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, perm)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster, and gives it
	}
	if err != nil {
		return err
	}
	// Whoever owns the parent may have put something else there.
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return Give(d, path)
}
