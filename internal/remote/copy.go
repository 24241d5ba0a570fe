package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

// Limits of a tree that a guest describes.
const (
	maxDepth   = 64
	maxEntries = 1 << 20
)

// Transfer says how to copy. The zero Transfer copies one file in silence.
type Transfer struct {
	Recursive bool                           // take directories too
	Start     func(name string, total int64) // before each file; may be nil
	Progress  func(n int)                    // n more bytes of that file; may be nil
}

// Upload copies the local file or directory to the guest's path; when that is a
// directory, or ends in a slash, into it. Each file arrives whole or not at
// all. Symbolic links inside a directory are refused.
func (c *Conn) Upload(ctx context.Context, local, to string, t Transfer) (err error) {
	files, err := c.sftp()
	if err != nil {
		return err
	}
	if to == "" {
		to = "."
	}
	if info, err := files.Stat(to); strings.HasSuffix(to, "/") || err == nil && info.IsDir() {
		to = path.Join(to, filepath.Base(local))
	}
	info, err := os.Stat(local)
	if err != nil {
		return err
	}
	return c.upload(ctx, files, local, to, info, t)
}

func (c *Conn) upload(ctx context.Context, files *sftp.Client, local, to string, info fs.FileInfo, t Transfer) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case info.Mode().IsRegular():
		return c.uploadFile(ctx, local, to, t)
	case !info.IsDir():
		return fmt.Errorf("copy %q: not a file or directory", local)
	case !t.Recursive:
		return fmt.Errorf("copy %q: is a directory: %w", local, errNeedsRecursive)
	}
	if err := files.MkdirAll(to); err != nil {
		return fmt.Errorf("make directory %q in guest: %w", to, err)
	}
	entries, err := os.ReadDir(local)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := c.upload(ctx, files, filepath.Join(local, e.Name()), path.Join(to, e.Name()), info, t); err != nil {
			return err
		}
	}
	return nil
}

var errNeedsRecursive = errors.New("directories need -r")

func (c *Conn) uploadFile(ctx context.Context, local, to string, t Transfer) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("copy %q: not a file", local)
	}
	t.start(local, info.Size())
	return c.Put(ctx, t.count(f), info.Size(), "", to, uint32(info.Mode().Perm()))
}

// Download copies the guest's file or directory to the local path; when that
// is a directory, into it. What a guest says is not trusted: names that would
// leave the target, links and special files are refused.
func (c *Conn) Download(ctx context.Context, from, local string, t Transfer) error {
	defer c.abandon(ctx)()
	files, err := c.sftp()
	if err != nil {
		return err
	}
	if from == "" {
		from = "."
	}
	info, err := files.Stat(from)
	if err != nil {
		return fmt.Errorf("copy %q from guest: %w", from, c.cause(ctx, err))
	}
	if here, err := os.Stat(local); err == nil && here.IsDir() {
		base := path.Base(path.Clean(from))
		if !plainName(base) {
			return fmt.Errorf("copy %q from guest: name the target", from)
		}
		local = filepath.Join(local, base)
	}
	left := maxEntries
	return c.download(ctx, files, download{from: from, to: local, info: info, left: &left, Transfer: t})
}

type download struct {
	Transfer
	from, to string
	info     fs.FileInfo
	depth    int
	left     *int // entries that may still come
}

func (c *Conn) download(ctx context.Context, files *sftp.Client, d download) error {
	*d.left--
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d.depth > maxDepth || *d.left < 0:
		return fmt.Errorf("copy %q from guest: too deep or too large a tree", d.from)
	case d.info.Mode().IsRegular():
		if err := c.downloadFile(ctx, files, d); err != nil {
			return fmt.Errorf("copy %q from guest: %w", d.from, c.cause(ctx, err))
		}
		return nil
	case !d.info.IsDir():
		return fmt.Errorf("copy %q from guest: not a file or directory", d.from)
	case !d.Recursive:
		return fmt.Errorf("copy %q from guest: is a directory: %w", d.from, errNeedsRecursive)
	}
	if err := os.MkdirAll(d.to, 0o755); err != nil {
		return err
	}
	entries, err := files.ReadDirContext(ctx, d.from)
	if err != nil {
		return fmt.Errorf("list %q in guest: %w", d.from, c.cause(ctx, err))
	}
	for _, e := range entries {
		if !plainName(e.Name()) {
			return fmt.Errorf("list %q in guest: unsafe name %q", d.from, e.Name())
		}
		below := d
		below.from, below.to = path.Join(d.from, e.Name()), filepath.Join(d.to, e.Name())
		below.info, below.depth = e, d.depth+1
		if err := c.download(ctx, files, below); err != nil {
			return err
		}
	}
	return nil
}

// plainName reports whether a guest's name stays inside the directory it is
// joined to.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func (c *Conn) downloadFile(ctx context.Context, files *sftp.Client, d download) error {
	f, err := files.Open(d.from)
	if err != nil {
		return err
	}
	defer f.Close()
	d.start(d.from, d.info.Size())
	return atomicfile.Write(d.to, d.info.Mode().Perm(), func(w io.Writer) error {
		sum := sha256.New()
		_, err := io.Copy(io.MultiWriter(w, sum), &source{ctx: ctx, r: d.count(f), sum: sha256.New()})
		if err != nil {
			return err
		}
		return c.checkDigest(ctx, d.from, hex.EncodeToString(sum.Sum(nil)))
	})
}

func (t Transfer) start(name string, total int64) {
	if t.Start != nil {
		t.Start(name, total)
	}
}

// count tells Progress what is read of r.
func (t Transfer) count(r io.Reader) io.Reader {
	if t.Progress == nil {
		return r
	}
	return counted{r, t.Progress}
}

type counted struct {
	r    io.Reader
	tell func(int)
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.tell(n)
	return n, err
}
