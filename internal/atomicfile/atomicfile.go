// Package atomicfile replaces files so that a reader, or the next run after a
// crash, sees the old content or the new content and never a part of either.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/owner"
)

// WriteFile makes data the content of path, with permission bits perm
// (the umask does not apply). The data and the directory entry are on stable
// storage when it returns nil. On an error path is unchanged and no temporary
// file is left; see Stage for what a killed process leaves.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, content(data))
}

// WriteOwned is WriteFile for a file that the user of its directory is to have when
// root writes it: see Staged.Own.
func WriteOwned(path string, data []byte, perm fs.FileMode) error {
	staged, err := Stage(path, perm, content(data))
	if err != nil {
		return err
	}
	if err := staged.Own(); err != nil {
		return err
	}
	return staged.Replace()
}

func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// Write is WriteFile for content that fill produces.
func Write(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	staged, err := Stage(path, perm, fill)
	if err != nil {
		return err
	}
	return staged.Replace()
}

// Staged is a file that is complete, on stable storage, and not at its path yet.
// End it with Replace, Create or Discard.
type Staged struct {
	path string
	file *os.File // locked: whoever finds it knows that its process lives
}

// Stage writes what is to be the content of path beside it, as Write does. A
// process that is killed leaves that file, named ".NAME.*.tmp"; the next Stage of
// the same path removes it.
func Stage(path string, perm fs.FileMode, fill func(io.Writer) error) (_ *Staged, err error) {
	Sweep(path)
	f, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("write %q: %w", path, Explain(err, path))
	}
	s := &Staged{path, f}
	defer func() {
		if err != nil {
			s.Discard()
			err = fmt.Errorf("write %q: %w", path, Explain(err, path))
		}
	}()
	if err := fill(f); err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return s, nil
}

// create makes a temporary file, and locks it until it is closed.
func create(path string) (*os.File, error) {
	for {
		// CreateTemp makes the file 0600, so a secret is never readable by others
		// between its creation and Chmod.
		f, err := os.CreateTemp(filepath.Dir(path), prefix(path)+"*"+suffix)
		if err != nil {
			return nil, err
		}
		if !hold(f, unix.LOCK_EX) {
			return f, nil // a file system without locks, where a sweep cannot lock it, either
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
			os.Remove(f.Name())
			f.Close()
			return nil, err
		}
		if stat.Nlink > 0 {
			return f, nil
		}
		f.Close() // a sweep came between its making and its lock
	}
}

// hold locks a file, as long as it is open, and tells whether it could.
func hold(f *os.File, how int) bool { return unix.Flock(int(f.Fd()), how) == nil }

const suffix = ".tmp"

func prefix(path string) string { return "." + filepath.Base(path) + "." }

// Sweep removes what killed processes left beside path when they wrote it. What a
// process is writing now stays, and so does what cannot be removed: it is in nobody's
// way.
func Sweep(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path)) // of a directory that may not be read, none
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), prefix(path))
		middle, temp := strings.CutSuffix(middle, suffix)
		if !ok || !temp || middle == "" || strings.Trim(middle, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		sweep(filepath.Join(filepath.Dir(path), e.Name()))
	}
}

// sweep removes a temporary file that nobody has locked.
func sweep(temp string) {
	f, err := os.OpenFile(temp, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if hold(f, unix.LOCK_EX|unix.LOCK_NB) {
		os.Remove(temp)
	}
}

// Own gives the file to the user of its directory where root writes it (see
// owner.Give). When it fails the file is discarded.
func (s *Staged) Own() error {
	if err := owner.Give(s.file, s.path); err != nil {
		s.Discard()
		return err
	}
	return nil
}

// Replace puts the file at its path, whatever is there.
func (s *Staged) Replace() error { return s.publish(os.Rename) }

// Create puts the file at its path, unless something is there: then the error is
// fs.ErrExist and what is there stays as it is.
func (s *Staged) Create() error {
	return s.publish(func(from, to string) error {
		if err := os.Link(from, to); err != nil { // unlike a rename, it replaces nothing
			return err
		}
		return os.Remove(from)
	})
}

func (s *Staged) publish(move func(from, to string) error) error {
	if err := move(s.file.Name(), s.path); err != nil {
		s.Discard()
		return fmt.Errorf("write %q: %w", s.path, Explain(err, s.path))
	}
	s.file.Close() // it was synced: nothing is left to fail
	return SyncDir(filepath.Dir(s.path))
}

// Discard removes the file where it is staged. After Replace or Create it does
// nothing.
func (s *Staged) Discard() {
	if s.file.Close() == nil {
		os.Remove(s.file.Name())
	}
}

// Explain adds what to do about an error of writing path that its reader can mend:
// a full disk, one that is read-only, a directory that is another user's. Others
// stay as they are, and so does one that has a hint.
func Explain(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case hint.Of(err) != "":
		return err
	case errors.Is(err, unix.ENOSPC):
		return hint.Wrap(err, "the disk is full: make room in %q (df -h, df -i), or write elsewhere", dir)
	case errors.Is(err, unix.EDQUOT):
		return hint.Wrap(err, "your quota is used up: make room in %q, or write elsewhere", dir)
	case errors.Is(err, unix.EROFS):
		return hint.Wrap(err, "%q is on a read-only file system: write elsewhere, or have it mounted for writing", dir)
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(err, "%q is not yours to write in: run it as %s, or write elsewhere", dir, owner.Name(dir))
	}
	return err
}

// SyncDir puts the entries of dir on stable storage: what a rename into it
// needs before it can be relied on after a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %q: %w", dir, err)
	}
	return nil
}

// PublicDir makes a directory into which everybody may go, whatever the umask is. One
// that is there becomes so.
func PublicDir(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755))
}
