package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
)

// Entry is one thing in the cache: an image, or what an interrupted run left.
type Entry struct {
	Digest    string    // "sha256:..."
	Leftover  bool      // of an interrupted build or download; resumable or not
	Origin    string    // where it came from, for people
	Format    string    // "qcow2", "raw"; "" when broken
	Virtual   uint64    // bytes of the disk
	Size      int64     // bytes taken in the cache
	FirstBoot FirstBoot // "" when broken
	CreatedAt time.Time
	Problem   string // why an image cannot be used; "" when it can
}

// List returns the cache's images, the newest first, then what was left by
// interrupted runs. It writes nothing.
func (c *Cache) List(context.Context) ([]Entry, error) {
	names, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var entries []Entry
	for _, d := range names {
		if isImageDir(d.Name()) {
			entries = append(entries, c.entry(d.Name()))
		} else if sum, ok := tmpDigest(d.Name()); ok {
			entries = append(entries, c.leftover(sum, "interrupted build or download", d.Name()))
		}
	}
	parts, err := filepath.Glob(filepath.Join(c.dir, "partial", "*.part"))
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		sum := strings.TrimSuffix(filepath.Base(p), ".part")
		if isImageDir(sum) {
			entries = append(entries, c.leftover(sum, "interrupted download", filepath.Join("partial", filepath.Base(p))))
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(compareBool(a.Leftover, b.Leftover), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Digest, b.Digest))
	})
	return entries, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (c *Cache) entry(sum string) Entry {
	dir := filepath.Join(c.dir, sum)
	e := Entry{Digest: "sha256:" + sum, Size: treeUse(dir)}
	m, err := readMeta(dir)
	if err != nil {
		e.Problem = err.Error()
		return e
	}
	e.Origin, e.Format, e.Virtual, e.FirstBoot, e.CreatedAt = m.Origin, m.Format, m.Virtual, m.FirstBoot, m.CreatedAt
	return e
}

func (c *Cache) leftover(sum, origin, name string) Entry {
	return Entry{Digest: "sha256:" + sum, Leftover: true, Origin: origin, Size: treeUse(filepath.Join(c.dir, name))}
}

// treeUse adds up what the files below path take on disk, as far as it can be
// read: somebody else may be removing them.
func treeUse(path string) int64 {
	var total int64
	_ = filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		if n, useErr := diskUse(name); err == nil && useErr == nil {
			total += n
		}
		return nil
	})
	return total
}

// Find returns the digest of the one image that prefix means: a digest with or
// without "sha256:", or its first four hex digits or more.
func (c *Cache) Find(ctx context.Context, prefix string) (string, error) {
	entries, err := c.List(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(hexOf(e.Digest), hexOf(prefix)) && !slices.Contains(found, e.Digest) {
			found = append(found, e.Digest)
		}
	}
	switch {
	case len(hexOf(prefix)) < 4 || len(found) == 0:
		return "", hint.Wrap(fmt.Errorf("no image %q in the cache", prefix), "list the images: ovsactl image ls")
	case len(found) > 1:
		return "", hint.Wrap(fmt.Errorf("%q means %d images", prefix, len(found)), "give more digits of the digest")
	}
	return found[0], nil
}

// Remove deletes the image, and what interrupted runs left of it. Guests made
// from it have their own copy. It waits for whoever is making the image, and
// succeeds when there is nothing to remove.
func (c *Cache) Remove(ctx context.Context, digest string) error {
	if !sumPattern.MatchString(hexOf(digest)) {
		return fmt.Errorf("remove image: %q is not a digest", digest)
	}
	held, err := c.lock(ctx, digest)
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	defer held.Release()
	if err := c.removeLocked(digest); err != nil {
		return fmt.Errorf("remove image %.12s: %w", hexOf(digest), writeHint(err))
	}
	return nil
}

func (c *Cache) removeLocked(digest string) error {
	// Out of sight at once, then away: a killed removal leaves no half image.
	grave := filepath.Join(c.dir, "tmp-"+hexOf(digest)+"-removed")
	if err := removeTree(grave); err != nil {
		return err
	}
	if err := os.Rename(c.imageDir(digest), grave); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t := transfer{part: filepath.Join(c.dir, "partial", hexOf(digest)+".part")}
	t.discard()
	return c.sweep(digest)
}

// PruneOptions says what [Cache.Prune] leaves alone.
type PruneOptions struct {
	Keep   []string // digests in use
	DryRun bool     // only say what would go
}

// Prune removes every image that is not in Keep, and what interrupted runs
// left, except what another process is at work on. It returns what it removed,
// also when it fails on the way.
func (c *Cache) Prune(ctx context.Context, opts PruneOptions) ([]Entry, error) {
	entries, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var removed []Entry
	for _, e := range entries {
		if !e.Leftover && slices.Contains(opts.Keep, e.Digest) {
			continue
		}
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		ok, err := c.pruneOne(ctx, e, opts.DryRun)
		if err != nil {
			return removed, fmt.Errorf("prune: %w", writeHint(err))
		}
		if ok {
			removed = append(removed, e)
		}
	}
	return removed, nil
}

// pruneOne removes e unless its lock is taken.
func (c *Cache) pruneOne(_ context.Context, e Entry, dryRun bool) (bool, error) {
	dir := filepath.Join(c.dir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	held, err := lock.Try(filepath.Join(dir, hexOf(e.Digest)+".lock"), c.opts.Holder)
	var busy *lock.Busy
	if errors.As(err, &busy) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer held.Release()
	switch {
	case dryRun:
		return true, nil
	case e.Leftover:
		t := transfer{part: filepath.Join(c.dir, "partial", hexOf(e.Digest)+".part")}
		t.discard()
		return true, c.sweep(e.Digest)
	}
	return true, c.removeLocked(e.Digest)
}
