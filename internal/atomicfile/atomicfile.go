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
	staged, err := Stage(path, perm, fill)
	if err != nil {
		return err
	}
	return staged.Replace()
}

// Staged is a file that is complete, on stable storage, and not at its path yet.
// End it with Replace, Create or Discard.
type Staged struct{ path, temp string }

// Stage writes what is to be the content of path beside it, as Write does.
func Stage(path string, perm fs.FileMode, fill func(io.Writer) error) (_ *Staged, err error) {
	// CreateTemp makes the file 0600, so a secret is never readable by others
	// between its creation and Chmod.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %q: %w", path, err)
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
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &Staged{path, f.Name()}, nil
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
	if err := move(s.temp, s.path); err != nil {
		s.Discard()
		return fmt.Errorf("write %q: %w", s.path, err)
	}
	return SyncDir(filepath.Dir(s.path))
}

// Discard removes the file where it is staged. After Replace or Create it does
// nothing.
func (s *Staged) Discard() { os.Remove(s.temp) }

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
