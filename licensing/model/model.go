package model

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// Model is an unlocked container. Close it.
type Model struct {
	*Container

	mu   sync.Mutex
	keys root
}

// Close wipes the keys, but for AES's own expansions of them, which are the
// garbage collector's. What is being decrypted is finished; then nothing is.
func (m *Model) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.keys)
	m.keys = nil
}

// Check authenticates every chunk of every file and gives nothing out: who must
// not see the beginning of a model whose end was changed calls it first.
func (m *Model) Check(ctx context.Context) error {
	for _, f := range m.files {
		if err := m.Decrypt(ctx, io.Discard, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// Decrypt writes a file's plaintext to w, in order, each chunk after it was
// authenticated. When it fails, what w has is the file's beginning and nothing
// else; the caller drops it.
func (m *Model) Decrypt(ctx context.Context, w io.Writer, name string) error {
	i, c, err := m.file(name)
	if err != nil {
		return fmt.Errorf("decrypt %q: %w", name, err)
	}
	err = m.each(ctx, i,
		func(s *slot) error { return m.open(i, c, s) },
		func(s *slot) error { return write(w, s.buf[:s.n]) })
	if err != nil {
		return fmt.Errorf("decrypt %q: %w", name, err)
	}
	return nil
}

func (m *Model) file(name string) (int, *fileCipher, error) {
	i, err := m.index(name)
	if err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		return 0, nil, fs.ErrClosed
	}
	c, err := m.keys.file(m.sum, i)
	return i, c, err
}

// open reads and decrypts chunk s of file i.
func (m *Model) open(i int, c *fileCipher, s *slot) error {
	if err := m.load(i, s); err != nil {
		return err
	}
	if _, err := c.open(s.buf[:s.n+tagSize], s.at); err != nil {
		return fmt.Errorf("%w: chunk %d", err, s.at.index)
	}
	return nil
}

// Reader is a file of a model for reading anywhere in it, by many goroutines.
// It keeps the chunk that was read last.
type Reader struct {
	m    *Model
	i    int
	c    *fileCipher
	size int64

	mu    sync.Mutex
	last  *slot // nil for none
	spare *slot
}

var _ io.ReaderAt = (*Reader)(nil)

// Reader returns a file for reading anywhere in it. Close it.
func (m *Model) Reader(name string) (*Reader, error) {
	i, c, err := m.file(name)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return &Reader{m: m, i: i, c: c, size: m.files[i].Size}, nil
}

// Size is the file's length.
func (r *Reader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt. It reads and authenticates whole chunks.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %q: negative offset", r.m.files[r.i].Name)
	}
	n := 0
	for n < len(p) && off < r.size {
		k, err := r.chunk(p[n:], off)
		if err != nil {
			return n, fmt.Errorf("read %q: %w", r.m.files[r.i].Name, err)
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// chunk copies from the chunk that has off.
func (r *Reader) chunk(p []byte, off int64) (int, error) {
	index := uint64(off / ChunkSize)
	r.mu.Lock()
	if r.c == nil {
		r.mu.Unlock()
		return 0, fs.ErrClosed
	}
	if r.last != nil && r.last.at.index == index {
		defer r.mu.Unlock()
		return copy(p, r.last.buf[off%ChunkSize:r.last.n]), nil
	}
	c, s := r.c, r.spare
	r.spare = nil
	r.mu.Unlock()
	if s == nil {
		s = &slot{}
	}
	s.at = place{index: index}
	err := r.m.open(r.i, c, s)
	n := 0
	if err == nil {
		n = copy(p, s.buf[off%ChunkSize:s.n])
	}
	r.keep(s, err == nil)
	return n, err
}

// ChunkBuffer is how much room a chunk needs while it is decrypted.
const ChunkBuffer = ChunkSize + tagSize

// Chunk reads and authenticates chunk n of the file, which has ChunkSize bytes, or is
// the last. buf is used for it where it has room, ChunkBuffer; what it returns is in
// buf then, and the caller's to wipe. It keeps nothing.
func (r *Reader) Chunk(n int64, buf []byte) ([]byte, error) {
	if n < 0 || n >= chunks(r.size) {
		return nil, fmt.Errorf("read %q: chunk %d: %w", r.m.files[r.i].Name, n, io.EOF)
	}
	r.mu.Lock()
	c := r.c
	r.mu.Unlock()
	if c == nil {
		return nil, fs.ErrClosed
	}
	s := slot{buf: buf, at: place{index: uint64(n)}}
	if err := r.m.open(r.i, c, &s); err != nil {
		clear(s.buf[:cap(s.buf)])
		return nil, fmt.Errorf("read %q: %w", r.m.files[r.i].Name, err)
	}
	return s.buf[:s.n], nil
}

// keep makes s the chunk that was read last, if it is good, and the one before
// the spare.
func (r *Reader) keep(s *slot, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c == nil {
		clear(s.buf)
		return
	}
	if good {
		if s, r.last = r.last, s; s == nil {
			return
		}
	}
	if r.spare != nil {
		clear(r.spare.buf)
	}
	r.spare = s
}

// Close wipes what is kept.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.c = nil
	for _, s := range []*slot{r.last, r.spare} {
		if s != nil {
			clear(s.buf)
		}
	}
	r.last, r.spare = nil, nil
	return nil
}
