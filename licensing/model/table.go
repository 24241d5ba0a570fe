package model

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"
)

// pieceEntries is how many entries of the table are read at a time.
const pieceEntries = 1024

// table is the tag table in a container. It stays there; in memory are the
// digests of its pieces, taken when the whole was checked, and the piece that
// was used last.
type table struct {
	r      io.ReaderAt
	at     int64
	length int64
	entry  int // bytes of each

	pieces []Digest

	mu    sync.Mutex
	piece int64 // the number of last
	last  []byte
}

// check reads the whole table, compares its digest, and notes its pieces'.
func (t *table) check(ctx context.Context, want string) error {
	whole := sha256.New()
	size := int64(pieceEntries * t.entry)
	t.pieces = make([]Digest, 0, (t.length+size-1)/size)
	for n := int64(0); n*size < t.length; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b, err := t.read(n, whole)
		if err != nil {
			return err
		}
		t.pieces = append(t.pieces, sha256.Sum256(b))
	}
	if Digest(whole.Sum(nil)).String() != want {
		return fmt.Errorf("%w: the tag table is not the signed one", ErrTampered)
	}
	return nil
}

// read reads piece n, and into h if it is not nil.
func (t *table) read(n int64, h hash.Hash) ([]byte, error) {
	off := n * int64(pieceEntries*t.entry)
	b := make([]byte, min(int64(pieceEntries*t.entry), t.length-off))
	if err := readAt(t.r, b, t.at+off); err != nil {
		return nil, err
	}
	if h != nil {
		h.Write(b)
	}
	return b, nil
}

// get returns the entry of a chunk, as it was when the table was checked. It is
// not to be changed.
func (t *table) get(number int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := number / pieceEntries; t.last == nil || n != t.piece {
		b, err := t.read(n, nil)
		if err != nil {
			return nil, err
		}
		if sha256.Sum256(b) != t.pieces[n] {
			return nil, fmt.Errorf("%w: the tag table has changed since it was checked", ErrTampered)
		}
		t.piece, t.last = n, b
	}
	off := number % pieceEntries * int64(t.entry)
	return t.last[off : off+int64(t.entry)], nil
}
