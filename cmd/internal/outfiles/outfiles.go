// Package outfiles writes the files of one run of a program: all of them, or none.
package outfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// Mode is that of what is written.
const Mode = 0o600

// Set is the files of one run.
type Set struct {
	Force bool // replace what is there
	files []output
}

// Flag is -force, which is Set's Force.
func Flag() guestcli.Flag {
	return guestcli.Flag{Name: "force", Help: "replace output files that exist"}
}

type output struct {
	path string
	fill func(io.Writer) error
}

// Add adds a file.
func (o *Set) Add(path string, data []byte) {
	o.AddFunc(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// AddFunc adds a file whose content is made when it is written.
func (o *Set) AddFunc(path string, fill func(io.Writer) error) {
	o.files = append(o.files, output{path, fill})
}

// Remove removes the files, those that there are.
func (o *Set) Remove() {
	for _, f := range o.files {
		os.Remove(f.path)
	}
}

// Check refuses, before any work is done, paths that exist, that are given twice,
// and those whose directory is not there or cannot be written to. What a run that
// was killed left of them is removed.
func (o *Set) Check(paths ...string) error {
	seen := map[string]bool{}
	for _, path := range paths {
		clean := filepath.Clean(path)
		if seen[clean] {
			return fmt.Errorf("%q is to be written twice", path)
		}
		seen[clean] = true
		if info, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("write %q: %w", path, err)
		} else if !info.IsDir() {
			return fmt.Errorf("write %q: its directory is a file", path)
		}
		if err := unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("write %q: %w", path, atomicfile.Explain(err, path))
		}
		atomicfile.Sweep(path)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("write %q: it exists and is not a file", path)
		case !o.Force:
			return exists(path)
		}
	}
	return nil
}

func exists(path string) error {
	return hint.Wrap(fmt.Errorf("write %q: %w", path, fs.ErrExist), "remove it, write elsewhere, or replace it with -force")
}

// Write makes all files before it puts the first at its path. When one of them is
// in the way after all, those before it are removed.
func (o *Set) Write() (err error) {
	var staged []*atomicfile.Staged
	var written []string
	defer func() {
		for _, s := range staged {
			s.Discard()
		}
		if err != nil && !o.Force {
			for _, path := range written {
				os.Remove(path)
			}
		}
	}()
	for _, f := range o.files {
		s, err := atomicfile.Stage(f.path, Mode, f.fill)
		if err != nil {
			return err
		}
		staged = append(staged, s)
		if err := s.Own(); err != nil {
			return err
		}
	}
	for i, s := range staged {
		publish := s.Create
		if o.Force {
			publish = s.Replace
		}
		if err := publish(); errors.Is(err, fs.ErrExist) {
			return exists(o.files[i].path)
		} else if err != nil {
			return err
		}
		written = append(written, o.files[i].path)
	}
	return nil
}
