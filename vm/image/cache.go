package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
)

// Options changes how a cache behaves. The zero value is good.
type Options struct {
	Now    func() time.Time // default time.Now
	Client *http.Client     // default: ten redirects, no plain HTTP after HTTPS
	// Stall is how long a transfer may bring nothing before it is given up and
	// tried again; default one minute.
	Stall time.Duration
	// MaxSize bounds a fetched file; default 64 GiB.
	MaxSize int64
	// OnWait is told, once per wait, that another process makes the image.
	OnWait func(*lock.Busy)
	Holder string // what others are told about this process; default its pid and name
}

// Cache is a directory of images. Any number of processes may use it at once.
//
//	HEX/            one image, complete and read-only: meta.json, disk.*, vmlinuz, initrd, cmdline
//	files/          digests of local image files by path, size and time
//	locks/HEX.lock  held while HEX is made or removed
//	partial/HEX.*   a transfer that can be resumed
//	tmp-HEX-*       being made; what a killed process left goes with the next Ensure, Remove or Prune
type Cache struct {
	dir  string
	opts Options
}

// Open returns the cache at dir, which is made when something is first put
// into it: reading works in a directory that cannot be written.
func Open(dir string, opts Options) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image cache: %w", err)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Stall == 0 {
		opts.Stall = time.Minute
	}
	if opts.MaxSize == 0 {
		opts.MaxSize = 64 << 30
	}
	if opts.Client == nil {
		opts.Client = defaultClient()
	}
	if opts.Holder == "" {
		opts.Holder = fmt.Sprintf("pid %d (%s)", os.Getpid(), filepath.Base(os.Args[0]))
	}
	return &Cache{dir: abs, opts: opts}, nil
}

// Lookup returns a cached image, false when [Cache.Ensure] has to make it
// first. It writes nothing.
func (c *Cache) Lookup(_ context.Context, src Source) (Image, bool, error) {
	if err := src.check(); err != nil {
		return Image{}, false, fmt.Errorf("image %q: %w", src.Name, err)
	}
	if src.File != "" {
		return c.lookupFile(src)
	}
	return c.lookup(src.Name, src.digest())
}

// digest is the identity of what a build or a source gives.
func (s Source) digest() string {
	if s.Build != nil {
		return s.Build.Digest()
	}
	return "sha256:" + s.SHA256
}

func (c *Cache) lookup(name, digest string) (Image, bool, error) {
	dir := c.imageDir(digest)
	m, err := readMeta(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Image{}, false, nil
	case err != nil:
		return Image{}, false, fmt.Errorf("image %q: %w", name, hint.Wrap(err, "remove it and let it be made again: ovsactl image rm %.12s", hexOf(digest)))
	}
	return m.image(name, dir), true, nil
}

// Ensure returns the image, which it builds or fetches when the cache does not
// have it. Of several processes that want the same image one makes it and the
// others wait for it. What is made appears at once and complete, or not at all.
func (c *Cache) Ensure(ctx context.Context, src Source, progress Progress) (Image, error) {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	img, ok, err := c.Lookup(ctx, src)
	if ok || err != nil {
		return img, err
	}
	if src.File != "" {
		return c.ensureFile(ctx, src, progress)
	}
	digest := src.digest()
	held, err := c.lock(ctx, digest)
	if err != nil {
		return Image{}, fmt.Errorf("image %q: %w", src.Name, err)
	}
	defer held.Release()
	if img, ok, err = c.lookup(src.Name, digest); ok || err != nil {
		return img, err // another process has made it meanwhile
	}
	if err := c.make(ctx, src, digest, progress); err != nil {
		return Image{}, fmt.Errorf("image %q: %w", src.Name, err)
	}
	img, ok, err = c.lookup(src.Name, digest)
	if err == nil && !ok {
		err = fmt.Errorf("image %q: it vanished from %q after it was made", src.Name, c.dir)
	}
	return img, err
}

// make builds or fetches the image into a directory beside its final one and
// renames it. The caller holds the image's lock.
func (c *Cache) make(ctx context.Context, src Source, digest string, progress Progress) (err error) {
	if err := c.sweep(digest); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(c.dir, "tmp-"+hexOf(digest)+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeTree(tmp)) }()
	out := filepath.Join(tmp, "image")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	var m meta
	if src.Build != nil {
		m, err = c.build(ctx, *src.Build, tmp, out, progress)
	} else {
		m, err = c.fetch(ctx, src, out, progress)
	}
	if err != nil {
		return err
	}
	m.Version, m.Digest, m.CreatedAt = metaVersion, digest, c.opts.Now().UTC().Truncate(time.Second)
	return c.publish(m, out)
}

// lock takes the lock of one image, telling OnWait who has it.
func (c *Cache) lock(ctx context.Context, digest string) (*lock.Lock, error) {
	dir := filepath.Join(c.dir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, writeHint(err)
	}
	l, err := lock.Wait(ctx, filepath.Join(dir, hexOf(digest)+".lock"), c.opts.Holder, c.opts.OnWait)
	return l, writeHint(err)
}

// writeHint explains a cache that cannot be written.
func writeHint(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.Wrap(err, "the data directory belongs to root: use sudo, or --data-dir DIR")
	}
	return err
}

func (c *Cache) imageDir(digest string) string { return filepath.Join(c.dir, hexOf(digest)) }

// isImageDir says whether name could be the directory of an image.
func isImageDir(name string) bool { return sumPattern.MatchString(name) }

// tmpDigest returns the hex digest in the name of a temporary directory.
func tmpDigest(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "tmp-")
	sum, _, _ := strings.Cut(rest, "-")
	return sum, ok && sumPattern.MatchString(sum)
}
