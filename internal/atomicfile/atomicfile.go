// Package atomicfile replaces files so that a reader, or the next run after a
// crash, sees the old content or the new content and never a part of either.
package atomicfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes data the content of path, with permission bits perm
// (the umask does not apply). The data and the directory entry are on stable
// storage when it returns nil. On an error path is unchanged and no temporary
// file is left; a temporary file that a killed process leaves is named
// ".NAME.*.tmp" beside path.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write is WriteFile for content that fill produces.
func Write(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return write(path, perm, fill, os.Rename)
}

// Create is Write for a path that must not exist yet: where it does, now or by
// the time that fill is done, the error is fs.ErrExist and path keeps its content.
func Create(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return write(path, perm, fill, func(from, to string) error {
		if err := os.Link(from, to); err != nil { // unlike a rename, it replaces nothing
			return err
		}
		return os.Remove(from)
	})
}

func write(path string, perm fs.FileMode, fill func(io.Writer) error, publish func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	// CreateTemp makes the file 0600, so a secret is never readable by others
	// between its creation and Chmod.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %q: %w", path, err)
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
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
