package component

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Codec compresses a bundle. Its text is the long option of tar(1) for it.
type Codec string

// Zstd is faster to unpack, and smaller where packages have programs in common;
// Gzip is what every guest has.
const (
	Zstd Codec = "zstd"
	Gzip Codec = "gzip"
)

// BundleEnd is the name of a bundle's last entry: without it the rest did not
// arrive whole.
const BundleEnd = ".complete"

const (
	// zstdWindow is how far apart the same program in two packages may be. zstd(1)
	// takes windows of up to 128 MiB unasked.
	zstdWindow = 32 << 20
	// Only files of some size are worth sharing, and only as large as is held in
	// memory for it.
	minShared = 64 << 10
	maxShared = 256 << 20
	// What is written at once becomes an SSH packet (of 32 KiB at most, RFC 4253,
	// 6.1), and each costs a guest without KVM 4 ms. gzip writes 240 bytes at once.
	pieceSize = 32 << 10
)

// Bundle is what goes to a guest in one stream: a tar archive, compressed, with
// the entries of each package below the package's name. Of the large files that
// our packages have in common all but the first are hard links to it.
type Bundle struct {
	Packages []Package
	Codec    Codec
}

// Size is how many bytes the packages have when they are unpacked.
func (b Bundle) Size() int64 {
	var total int64
	for _, p := range b.Packages {
		total += p.Unpacked
	}
	return total
}

// Write writes the bundle. done, if not nil, is told of [Bundle.Size] as it goes.
// An error means that the guest did not get BundleEnd: a package is not what it
// was when it was opened, ctx has ended, or w fails.
func (b Bundle) Write(ctx context.Context, w io.Writer, done func(int64)) error {
	if done == nil {
		done = func(int64) {}
	}
	pieces := bufio.NewWriterSize(w, pieceSize)
	zipped, err := b.compress(pieces)
	if err != nil {
		return fmt.Errorf("bundle components: %w", err)
	}
	out := &bundler{ctx: ctx, tar: tar.NewWriter(zipped), shared: make(map[sharedKey]string), done: done}
	for _, p := range b.Packages {
		if err := out.add(p); err != nil {
			return fmt.Errorf("bundle component %q: %w", p.Name, err)
		}
	}
	err = out.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: BundleEnd, Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
	if err = errors.Join(err, out.tar.Close(), zipped.Close(), pieces.Flush()); err != nil {
		return fmt.Errorf("bundle components: %w", err)
	}
	return nil
}

func (b Bundle) compress(w io.Writer) (io.WriteCloser, error) {
	switch b.Codec {
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(zstdWindow))
	case Gzip:
		return gzip.NewWriter(w), nil
	}
	return nil, fmt.Errorf("codec %q", b.Codec)
}

// bundler writes one bundle.
type bundler struct {
	ctx     context.Context
	tar     *tar.Writer
	shared  map[sharedKey]string // the entry that has the content
	written int64
	done    func(int64)
}

type sharedKey struct {
	sum  [sha256.Size]byte
	mode int64
}

// add copies a package's entries. They were checked when the package was opened,
// and are again: only in the end the digest shows that it is the same still.
func (b *bundler) add(p Package) error {
	f, err := os.Open(p.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	raw := io.TeeReader(f, sum)
	stream, err := decompress(raw)
	if err != nil {
		return err
	}
	list := newListing()
	for entries := tar.NewReader(stream); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if _, err := list.add(h); err != nil {
			return err
		}
		if err := b.entry(p, h, entries); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.Digest {
		return fmt.Errorf("%q has changed since it was read: it is sha256:%s now, and was sha256:%s", p.Path, got, p.Digest)
	}
	return nil
}

func (b *bundler) entry(p Package, h *tar.Header, content io.Reader) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if h.Typeflag == tar.TypeXGlobalHeader || path.Clean(h.Name) == "." {
		return nil
	}
	out := &tar.Header{
		Typeflag: h.Typeflag, Name: path.Join(p.Name, h.Name), Linkname: h.Linkname, Size: h.Size,
		Mode: h.Mode & 0o7777, ModTime: h.ModTime, Format: tar.FormatPAX,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = path.Join(p.Name, h.Linkname) // from the archive's top
	}
	if h.Typeflag != tar.TypeReg || !p.Ours || h.Size < minShared || h.Size > maxShared {
		return b.copy(out, content)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	key := sharedKey{sha256.Sum256(data), out.Mode}
	if first, ok := b.shared[key]; ok {
		out.Typeflag, out.Linkname, out.Size = tar.TypeLink, first, 0
		b.advance(h.Size)
		return b.tar.WriteHeader(out)
	}
	b.shared[key] = out.Name
	return b.copy(out, bytes.NewReader(data))
}

// copy writes an entry in pieces, and tells of each.
func (b *bundler) copy(h *tar.Header, content io.Reader) error {
	if err := b.tar.WriteHeader(h); err != nil || h.Size == 0 {
		return err
	}
	buf := make([]byte, 128<<10)
	for {
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		n, err := content.Read(buf)
		if _, err := b.tar.Write(buf[:n]); err != nil {
			return err
		}
		b.advance(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (b *bundler) advance(n int64) {
	b.written += n
	b.done(b.written)
}

// decompress returns the tar archive in r, which may be gzipped or plain.
func decompress(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := buffered.Peek(2); !slices.Equal(magic, []byte{0x1f, 0x8b}) {
		return buffered, nil
	}
	return gzip.NewReader(buffered)
}
