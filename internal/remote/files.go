package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pkg/sftp"
)

// partSuffix marks a file that has not arrived yet.
const partSuffix = ".part"

// Put writes size bytes of r to path in the guest. They go to path + ".part",
// are put on stable storage, read back and compared with the digest (lower-case
// hex SHA-256; "" for that of what r gave), and only then take path's place,
// with permission bits mode. On an error path is as it was and the part is gone.
func (c *Conn) Put(ctx context.Context, r io.Reader, size int64, sha256Hex, path string, mode uint32) (err error) {
	defer c.abandon(ctx)()
	defer func() {
		if err != nil {
			err = fmt.Errorf("put %q: %w", path, c.cause(ctx, err))
		}
	}()
	files, err := c.sftp()
	if err != nil {
		return err
	}
	part := path + partSuffix
	defer func() {
		if err != nil {
			files.Remove(part)
		}
	}()
	digest, err := writePart(ctx, files, part, r, size)
	if err != nil {
		return err
	}
	if sha256Hex != "" && digest != sha256Hex {
		return fmt.Errorf("digest is sha256:%s, want sha256:%s", digest, sha256Hex)
	}
	if err := c.checkDigest(ctx, part, digest); err != nil {
		return err
	}
	if err := files.Chmod(part, fs.FileMode(mode).Perm()); err != nil {
		return err
	}
	return files.PosixRename(part, path)
}

// writePart writes the file that will be renamed and returns its digest.
func writePart(ctx context.Context, files *sftp.Client, part string, r io.Reader, size int64) (string, error) {
	// What a killed run left goes first, so that the new part is a file that
	// we made and not one that somebody else holds open.
	if err := files.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f, err := files.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return "", err
	}
	sum := sha256.New()
	n, err := f.ReadFromWithConcurrency(&source{ctx: ctx, r: io.LimitReader(r, size+1), sum: sum}, 64)
	switch {
	case err != nil:
		return "", err
	case n != size:
		return "", fmt.Errorf("got %d bytes or more, want %d", n, size)
	}
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !isUnsupported(err) {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), f.Close()
}

func isUnsupported(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxOpUnsupported
}

// abandon closes the connection when ctx has ended and the transfer has not
// followed in time: SFTP requests know no contexts. Call what it returns when
// the transfer is over.
func (c *Conn) abandon(ctx context.Context) func() {
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-over:
		case <-time.After(stopWait):
			c.client.Close()
		}
	})
	return func() { close(over); stop() }
}

// checkDigest has the guest read the file back.
func (c *Conn) checkDigest(ctx context.Context, path, want string) error {
	got, err := c.digest(ctx, path)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("arrived as sha256:%s, sent as sha256:%s", got, want)
	}
	return nil
}

func (c *Conn) digest(ctx context.Context, path string) (string, error) {
	var out limited
	if err := c.Run(ctx, []string{"sha256sum", "--", path}, nil, &out, nil); err != nil {
		return "", err
	}
	// A name with special characters makes sha256sum escape it and say so with
	// a backslash before the digest.
	sum, _, ok := strings.Cut(strings.TrimPrefix(out.buf.String(), `\`), " ")
	if _, err := hex.DecodeString(sum); !ok || err != nil || len(sum) != 2*sha256.Size {
		return "", errors.New("sha256sum in the guest gave no digest")
	}
	return sum, nil
}

// source is a reader that stops with its context and sums what passes.
type source struct {
	ctx context.Context
	r   io.Reader
	sum hash.Hash
}

func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

// limited keeps the first 64 KiB that are written to it.
type limited struct{ buf bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 64<<10 - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
