package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

// publish makes the finished directory out the image m.Digest: files read-only
// and on stable storage, then meta.json, then the rename.
func (c *Cache) publish(m meta, out string) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := seal(filepath.Join(out, e.Name())); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(filepath.Join(out, metaName), append(data, '\n'), 0o444); err != nil {
		return err
	}
	if err := os.Rename(out, c.imageDir(m.Digest)); err != nil {
		return err
	}
	return atomicfile.SyncDir(c.dir)
}

// seal makes a file read-only and puts it on stable storage.
func seal(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o444), f.Sync(), f.Close())
}

// sweep removes what killed processes left of the image. The caller holds the
// image's lock, so nobody is at work on it.
func (c *Cache) sweep(digest string) error {
	names, err := filepath.Glob(filepath.Join(c.dir, "tmp-"+hexOf(digest)+"-*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(name); err != nil {
			return err
		}
	}
	// A directory without meta.json is what is left of a removal.
	dir := c.imageDir(digest)
	if _, err := os.Stat(filepath.Join(dir, metaName)); errors.Is(err, os.ErrNotExist) {
		return removeTree(dir)
	}
	return nil
}

// removeTree removes a directory unless something is mounted in it: a package
// installation mounts /dev, and deleting through that would hurt the host.
func removeTree(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			return fmt.Errorf("remove %q: %q is mounted in it", dir, fields[4])
		}
	}
	return os.RemoveAll(dir)
}
