package ovsatool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// private is the mode of what the tool writes.
const private = 0o600

// outputs are the files of one run: all of them are written, or none.
type outputs struct {
	force bool // replace what is there
	files []output
}

type output struct {
	path string
	fill func(io.Writer) error
}

func (o *outputs) add(path string, data []byte) {
	o.files = append(o.files, output{path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}})
}

// check refuses, before any work is done, paths that exist, that are given twice,
// and those whose directory is not there.
func (o *outputs) check(paths ...string) error {
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
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("write %q: it exists and is not a file", path)
		case !o.force:
			return exists(path)
		}
	}
	return nil
}

func exists(path string) error {
	return hint.Wrap(fmt.Errorf("write %q: %w", path, fs.ErrExist), "remove it, write elsewhere, or replace it with -force")
}

// write makes all files before it puts the first at its path. When one of them is
// in the way after all, those before it are removed.
func (o *outputs) write() (err error) {
	var staged []*atomicfile.Staged
	var written []string
	defer func() {
		for _, s := range staged {
			s.Discard()
		}
		if err != nil && !o.force {
			for _, path := range written {
				os.Remove(path)
			}
		}
	}()
	for _, f := range o.files {
		s, err := atomicfile.Stage(f.path, private, f.fill)
		if err != nil {
			return err
		}
		staged = append(staged, s)
	}
	for i, s := range staged {
		publish := s.Create
		if o.force {
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
