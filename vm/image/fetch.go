package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// fetch brings src's file into the directory out and verifies it before
// anything looks at its content.
func (c *Cache) fetch(ctx context.Context, src Source, out string, progress Progress) (meta, error) {
	u, err := url.Parse(src.URL)
	if err != nil {
		return meta{}, fmt.Errorf("source: %w", err)
	}
	part := filepath.Join(out, "fetched")
	switch u.Scheme {
	case "http", "https":
		err = c.download(ctx, u, src.SHA256, part, progress)
	case "file":
		err = c.copyLocal(ctx, u.Path, part, progress)
		if err == nil {
			err = verify(ctx, part, src.SHA256, progress)
		}
	default:
		err = fmt.Errorf("source %q: only http, https and file URLs", u.Redacted())
	}
	if err != nil {
		return meta{}, err
	}
	m, err := inspect(part)
	if err != nil {
		return meta{}, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	m.FirstBoot, m.Origin, m.Disk = CloudInit, u.Redacted(), "disk."+m.Format
	return m, os.Rename(part, filepath.Join(out, m.Disk))
}

// inspect detects the format of the disk image at path.
func inspect(path string) (meta, error) {
	f, err := os.Open(path)
	if err != nil {
		return meta{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return meta{}, err
	}
	format, virtual, err := detect(f, info.Size())
	return meta{Format: format, Virtual: virtual}, err
}

// mismatch is a file that is not the one the manifest names.
type mismatch struct{ want, got string }

func (m *mismatch) Error() string {
	return fmt.Sprintf("checksum does not match\n    expected %s\n    got      %s", m.want, m.got)
}

// verify compares the file's SHA-256 with want.
func verify(ctx context.Context, path, want string, progress Progress) error {
	got, err := sumFile(ctx, path, progress)
	if err != nil {
		return err
	}
	if got != want {
		return hint.Wrap(&mismatch{want, got}, "compare with the checksum that the publisher gives; if the file was replaced there, update sha256 in the manifest")
	}
	return nil
}

func sumFile(ctx context.Context, path string, progress Progress) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	return sumReader(&meter{ctx: ctx, r: f, report: func(n int64) { progress("verify", n, info.Size()) }})
}

// copyLocal copies a file of this machine, leaving holes where it has zeros.
func (c *Cache) copyLocal(ctx context.Context, from, to string, progress Progress) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%q is not a regular file", from)
	case info.Size() > c.opts.MaxSize:
		return fmt.Errorf("%q has %d bytes, more than the limit of %d", from, info.Size(), c.opts.MaxSize)
	}
	if err := checkSpace(c.dir, info.Size()); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := &sparseFile{f: out}
	_, err = io.Copy(w, &meter{ctx: ctx, r: in, report: func(n int64) { progress("copy", n, info.Size()) }})
	if err == nil {
		err = w.finish()
	}
	return errors.Join(err, out.Close())
}

// meter reports how much was read and ends with its context.
type meter struct {
	ctx    context.Context
	r      io.Reader
	n      int64
	report func(n int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if m.ctx.Err() != nil {
		return 0, context.Cause(m.ctx)
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.report(m.n)
	return n, err
}
