package model

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ovsactl/ovsactl/licensing"
)

// Opener opens containers.
type Opener struct {
	// Verify checks the signature of what a Sealer's Sign returned, against
	// keys that it trusts, and returns the payload. It must refuse bytes that
	// the signature does not account for.
	Verify func(signed []byte) (payload []byte, err error)

	Workers  int                         // at the same time; 0 for one per core
	Progress func(file int, bytes int64) // if not nil, told what was checked or decrypted after each chunk
}

// Container is a container whose signature, header, lengths and tag table have
// been checked. Nothing in it is decrypted without its key.
type Container struct {
	opener Opener
	r      io.ReaderAt
	header header
	sum    Digest // of header
	info   Info
	digest Digest
	files  []extent
	table  *table
	hash   func([]byte) [digestSize]byte // of chunks; nil for none
	hashed string                        // the name of hash
}

// extent is a file and where it is.
type extent struct {
	File
	at     int64 // of its ciphertext
	number int64 // of its first chunk
}

// Open checks the container of size bytes in r. It reads its header, trailer,
// manifest and tag table, and no ciphertext. The errors are ErrFormat,
// ErrTruncated, ErrSignature and ErrTampered, and those of r and ctx.
func (o Opener) Open(ctx context.Context, r io.ReaderAt, size int64) (*Container, error) {
	c, err := o.open(ctx, r, size)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	return c, nil
}

func (o Opener) open(ctx context.Context, r io.ReaderAt, size int64) (*Container, error) {
	if o.Verify == nil {
		return nil, errors.New("nothing to verify the signature with")
	}
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	l, err := readLayout(r, size)
	if err != nil {
		return nil, err
	}
	signed := make([]byte, l.signed)
	if err := readAt(r, signed, l.signedAt()); err != nil {
		return nil, err
	}
	payload, err := o.Verify(signed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	m, err := parseManifest(payload)
	if err != nil {
		return nil, err
	}
	if m.Header != h.digest().String() {
		return nil, fmt.Errorf("%w: the header is not the signed one", ErrTampered)
	}
	c := &Container{opener: o, r: r, header: h, sum: h.digest(), info: m.info(), digest: sha256.Sum256(payload)}
	if err := c.place(m, l); err != nil {
		return nil, err
	}
	if err := c.table.check(ctx, m.Table); err != nil {
		return nil, err
	}
	return c, nil
}

// place finds the files, and compares the lengths in the trailer with what was
// signed.
func (c *Container) place(m manifest, l layout) error {
	at, number := int64(headerSize), int64(0)
	for _, f := range m.Files {
		c.files = append(c.files, extent{File: File{Name: f.Name, Size: f.Size}, at: at, number: number})
		at, number = at+f.Size, number+f.Chunks
	}
	if at != l.tableAt() || number*int64(m.entrySize()) != l.table {
		return fmt.Errorf("%w: its lengths are not the signed ones", ErrTampered)
	}
	c.hash, c.hashed = hashOf(m.Digests), m.Digests
	c.table = &table{r: c.r, at: at, length: l.table, entry: m.entrySize()}
	return nil
}

// Info is what the vendor says about the model.
func (c *Container) Info() Info { return c.info }

// Digest is the digest of the manifest, by which licences name the model.
func (c *Container) Digest() Digest { return c.digest }

// Files lists the files in their order.
func (c *Container) Files() []File {
	files := make([]File, len(c.files))
	for i, f := range c.files {
		files[i] = f.File
	}
	return files
}

// HasDigests tells whether the chunks have digests, so that the signature binds
// the content also against those who have the key, and Check can be used.
func (c *Container) HasDigests() bool { return c.hash != nil }

// Digests is how the chunks' digests are made: "blake3", "sha256" in version 1 of the
// format, or "none".
func (c *Container) Digests() string { return c.hashed }

// Check compares every chunk with its digest, which needs no key. A container
// without digests is an error.
func (c *Container) Check(ctx context.Context) error {
	if !c.HasDigests() {
		return errors.New("check model: it has no digests; only its key can check it")
	}
	for i := range c.files {
		if err := c.each(ctx, i, func(s *slot) error { return c.load(i, s) }, nil); err != nil {
			return fmt.Errorf("check model: %q: %w", c.files[i].Name, err)
		}
	}
	return nil
}

// Unlock returns the model for reading. Another key than the container's is
// ErrKey.
func (c *Container) Unlock(key licensing.Key) (*Model, error) {
	keys, err := newRoot(key, c.header.salt)
	if err != nil {
		return nil, fmt.Errorf("unlock model: %w", err)
	}
	commitment, err := keys.commitment()
	if err != nil {
		return nil, fmt.Errorf("unlock model: %w", err)
	}
	if subtle.ConstantTimeCompare(commitment, c.header.commitment[:]) != 1 {
		clear(keys)
		return nil, fmt.Errorf("unlock model: %w", ErrKey)
	}
	return &Model{Container: c, keys: keys}, nil
}

// index finds a file.
func (c *Container) index(name string) (int, error) {
	i := slices.IndexFunc(c.files, func(f extent) bool { return f.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("the model has no file %q", name)
	}
	return i, nil
}

// load reads chunk s of file i, its ciphertext and its tag, and compares its
// digest if it has one.
func (c *Container) load(i int, s *slot) error {
	f := c.files[i]
	off := int64(s.at.index) * ChunkSize
	s.at.last = f.Size-off <= ChunkSize
	s.grow(int(min(ChunkSize, f.Size-off)))
	entry, err := c.table.get(f.number + int64(s.at.index))
	if err != nil {
		return err
	}
	if err := readAt(c.r, s.buf[:s.n], f.at+off); err != nil {
		return err
	}
	if c.hash != nil && c.hash(s.buf[:s.n]) != [digestSize]byte(entry[tagSize:]) {
		return fmt.Errorf("%w: chunk %d", ErrTampered, s.at.index)
	}
	copy(s.buf[s.n:], entry[:tagSize])
	return nil
}

// each does work on all chunks of file i, on all cores, and emit, if it is not
// nil, in order.
func (c *Container) each(ctx context.Context, i int, work, emit func(*slot) error) error {
	next, total, done := uint64(0), uint64(chunks(c.files[i].Size)), int64(0)
	p := pipeline{workers: int(min(uint64(workers(c.opener.Workers)), total)), work: work}
	p.fill = func(s *slot) (bool, error) {
		if next == total {
			return false, nil
		}
		s.at = place{index: next}
		next++
		return true, nil
	}
	p.emit = func(s *slot) error {
		if emit != nil {
			if err := emit(s); err != nil {
				return err
			}
		}
		done += int64(s.n)
		if c.opener.Progress != nil {
			c.opener.Progress(i, done)
		}
		return nil
	}
	return p.run(ctx)
}
