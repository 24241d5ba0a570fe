package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// fileRecord remembers the digest of a local image for as long as the file
// looks the same.
type fileRecord struct {
	Path    string
	Stamp   stamp
	Digest  string
	Format  string
	Virtual uint64
}

// stamp changes when a file is written or replaced.
type stamp struct {
	Size, MTime, CTime int64
	Inode              uint64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, hint.Wrap(err, "check the image's `file`")
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%q is not a regular file", path)
	}
	s := stamp{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.CTime, s.Inode = st.Ctim.Nano(), st.Ino
	}
	return s, nil
}

// lookupFile answers for a local image that was verified before and has not
// changed since. The image stays where it is.
func (c *Cache) lookupFile(src Source) (Image, bool, error) {
	now, err := stampOf(src.File)
	if err != nil {
		return Image{}, false, fmt.Errorf("image %q: %w", src.Name, err)
	}
	var rec fileRecord
	data, err := os.ReadFile(c.recordPath(src.File))
	if err != nil || json.Unmarshal(data, &rec) != nil || rec.Path != src.File || rec.Stamp != now {
		return Image{}, false, nil //nolint:nilerr // not known: Ensure reads the file
	}
	img, err := rec.image(src)
	return img, err == nil, err
}

func (rec fileRecord) image(src Source) (Image, error) {
	if src.SHA256 != "" && hexOf(rec.Digest) != src.SHA256 {
		return Image{}, fmt.Errorf("image %q: %q: %w", src.Name, src.File, &mismatch{src.SHA256, hexOf(rec.Digest)})
	}
	return Image{
		Name: src.Name, Digest: rec.Digest, Path: src.File, Format: rec.Format,
		Virtual: rec.Virtual, FirstBoot: CloudInit,
	}, nil
}

// ensureFile reads the whole file once and remembers what it found.
func (c *Cache) ensureFile(ctx context.Context, src Source, progress Progress) (Image, error) {
	rec, err := examine(ctx, src.File, progress)
	if err != nil {
		return Image{}, fmt.Errorf("image %q: %w", src.Name, err)
	}
	img, err := rec.image(src)
	if err != nil {
		return Image{}, err
	}
	if err := c.record(rec); err != nil {
		return Image{}, fmt.Errorf("image %q: %w", src.Name, err)
	}
	return img, nil
}

func examine(ctx context.Context, path string, progress Progress) (fileRecord, error) {
	before, err := stampOf(path)
	if err != nil {
		return fileRecord{}, err
	}
	m, err := inspect(path)
	if err != nil {
		return fileRecord{}, fmt.Errorf("%q: %w", path, err)
	}
	sum, err := sumFile(ctx, path, progress)
	if err != nil {
		return fileRecord{}, err
	}
	after, err := stampOf(path)
	if err == nil && after != before {
		err = fmt.Errorf("%q changed while it was read", path)
	}
	return fileRecord{Path: path, Stamp: after, Digest: "sha256:" + sum, Format: m.Format, Virtual: m.Virtual}, err
}

// record writes rec unless the cache cannot be written: then the file is read
// again the next time, which is slow and right.
func (c *Cache) record(rec fileRecord) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	path := c.recordPath(rec.Path)
	err = os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = atomicfile.WriteFile(path, data, 0o644)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

func (c *Cache) recordPath(file string) string {
	sum := sha256.Sum256([]byte(file))
	return filepath.Join(c.dir, "files", hex.EncodeToString(sum[:])+".json")
}
