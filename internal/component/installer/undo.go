package installer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

// oldPrefix starts the names of files that an upgrade has replaced and may put back.
const oldPrefix = ".ovsa-old."

// upgrade is what an installation that is under way has replaced. It is on record,
// in COMPONENT.undo, from before the first file changes until the new version's units
// are ready: whoever finds it puts the old version back.
type upgrade struct {
	Paths []replaced `json:"paths"`
	Units []string   `json:"units"` // that were to be started with the new files
}

// replaced is a file that changes.
type replaced struct {
	Path string `json:"path"` // as manifests have it
	New  bool   `json:"new"`  // the old version has none
}

func (in *installation) undoFile() string { return filepath.Join(in.state, in.pkg.Name+".undo") }

// saved is where the old version of a file is kept: beside it.
func (in *installation) saved(path string) string {
	full := filepath.Join(in.Dest, path)
	return filepath.Join(filepath.Dir(full), oldPrefix+filepath.Base(full))
}

// save keeps the files that are to be replaced or removed.
func (in *installation) save(u upgrade) error {
	dirs := make(map[string]bool)
	for i, r := range u.Paths {
		saved := in.saved(r.Path)
		if err := remove(saved); err != nil {
			return err
		}
		err := os.Link(filepath.Join(in.Dest, r.Path), saved)
		if u.Paths[i].New = errors.Is(err, fs.ErrNotExist); err != nil && !u.Paths[i].New {
			return fmt.Errorf("keep the old version of %q: %w", r.Path, err)
		}
		dirs[filepath.Dir(saved)] = true
	}
	if err := syncDirs(dirs); err != nil {
		return err
	}
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(in.undoFile(), text, 0o600)
}

// undoAll undoes what killed installations left, of this component or another.
func (in *installation) undoAll() error {
	left, err := matching(in.state, "*.undo")
	if err != nil {
		return err
	}
	for _, file := range left {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var u upgrade
		if err := json.Unmarshal(text, &u); err != nil {
			return fmt.Errorf("read %q: %w", file, err)
		}
		if err := in.undo(u, file); err != nil {
			return fmt.Errorf("undo an upgrade that was cut off: %w", err)
		}
	}
	return nil
}

// undo puts the old version's files back. It may be killed anywhere, and called again.
func (in *installation) undo(u upgrade, file string) error {
	// What runs may be of the new version.
	for _, unit := range u.Units {
		if err := remove(in.startedFile(unit)); err != nil {
			return err
		}
	}
	dirs := make(map[string]bool)
	for _, r := range u.Paths {
		err := checkPath(r.Path)
		if err == nil {
			err = in.restore(r)
		}
		if err != nil {
			return fmt.Errorf("put the old version of %q back: %w", r.Path, err)
		}
		dirs[filepath.Dir(in.saved(r.Path))] = true
	}
	if err := syncDirs(dirs); err != nil {
		return err
	}
	return in.forget(u, file)
}

// restore puts one file back.
func (in *installation) restore(r replaced) error {
	full, saved := filepath.Join(in.Dest, r.Path), in.saved(r.Path)
	if r.New {
		return remove(full)
	}
	var st unix.Stat_t
	switch err := unix.Lstat(saved, &st); {
	case errors.Is(err, unix.ENOENT): // it was put back before
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFREG || in.Dest == "" && st.Uid != 0:
		return fmt.Errorf("%q is not what was kept", saved)
	}
	return os.Rename(saved, full)
}

// forget makes the present version the one that stays.
func (in *installation) forget(u upgrade, file string) error {
	if err := remove(file); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(in.state); err != nil {
		return err
	}
	for _, r := range u.Paths {
		if err := remove(in.saved(r.Path)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDirs(dirs map[string]bool) error {
	for dir := range dirs {
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
