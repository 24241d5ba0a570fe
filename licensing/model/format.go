package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/ovsactl/ovsactl/licensing"
)

// Errors that refuse a container or a key. A caller tells them apart with
// errors.Is.
var (
	ErrFormat    = errors.New("not a model container, or a malformed one")
	ErrTruncated = errors.New("the model container is incomplete")
	ErrSignature = errors.New("the model's signature is not valid")
	ErrTampered  = errors.New("the model container was changed")
	ErrKey       = errors.New("not the key of this model")
	ErrInput     = errors.New("cannot be put into a model container")
)

// Limits of the format.
const (
	ChunkSize = 1 << 20 // plaintext bytes per chunk, but for a file's last
	MaxData   = 1 << 44 // bytes of all files together
	MaxFiles  = 4096
	MaxSigned = licensing.MaxModel // bytes of the signed manifest
)

const (
	headerMagic  = "OVSA-MODEL-1\r\n\x1a\n"
	trailerMagic = "OVSA-END"
	saltSize     = 32
	headerSize   = len(headerMagic) + saltSize + sha256.Size
	trailerSize  = 8 + 8 + 8 + len(trailerMagic)
	tagSize      = 16
	maxEntry     = tagSize + digestSize // tag, digest
	maxTable     = (MaxData/ChunkSize + MaxFiles) * maxEntry
)

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// String is d in lower-case hex, as licences name a model.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// header is the beginning of a container.
type header struct {
	salt       [saltSize]byte
	commitment [sha256.Size]byte
}

func (h header) encode() []byte {
	b := append(make([]byte, 0, headerSize), headerMagic...)
	b = append(b, h.salt[:]...)
	return append(b, h.commitment[:]...)
}

func (h header) digest() Digest { return sha256.Sum256(h.encode()) }

func readHeader(r io.ReaderAt, size int64) (header, error) {
	b := make([]byte, max(0, min(size, int64(headerSize))))
	if err := readAt(r, b, 0); err != nil {
		return header{}, err
	}
	if n := min(len(b), len(headerMagic)); n == 0 || string(b[:n]) != headerMagic[:n] {
		return header{}, ErrFormat
	}
	if len(b) < headerSize {
		return header{}, ErrTruncated
	}
	b = b[len(headerMagic):]
	return header{salt: [saltSize]byte(b), commitment: [sha256.Size]byte(b[saltSize:])}, nil
}

// layout is where things are in a container. The trailer says it.
type layout struct{ data, table, signed int64 }

func (l layout) tableAt() int64  { return int64(headerSize) + l.data }
func (l layout) signedAt() int64 { return l.tableAt() + l.table }
func (l layout) size() int64     { return l.signedAt() + l.signed + int64(trailerSize) }

func (l layout) encode() []byte {
	b := make([]byte, 0, trailerSize)
	for _, n := range []int64{l.data, l.table, l.signed} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, trailerMagic...)
}

// readLayout reads the trailer and holds it against the size, to the byte.
func readLayout(r io.ReaderAt, size int64) (layout, error) {
	if size < int64(headerSize+trailerSize) {
		return layout{}, ErrTruncated
	}
	b := make([]byte, trailerSize)
	if err := readAt(r, b, size-int64(trailerSize)); err != nil {
		return layout{}, err
	}
	if string(b[24:]) != trailerMagic {
		return layout{}, fmt.Errorf("%w: it does not end with a trailer", ErrTruncated)
	}
	var n [3]int64
	for i, limit := range []uint64{MaxData, maxTable, MaxSigned} {
		v := binary.BigEndian.Uint64(b[8*i:])
		if v > limit {
			return layout{}, fmt.Errorf("%w: a length in the trailer is over its limit", ErrFormat)
		}
		n[i] = int64(v)
	}
	l := layout{data: n[0], table: n[1], signed: n[2]}
	switch want := l.size(); {
	case size < want:
		return layout{}, fmt.Errorf("%w: %d bytes of %d", ErrTruncated, size, want)
	case size > want:
		return layout{}, fmt.Errorf("%w: %d bytes more than its trailer tells", ErrFormat, size-want)
	}
	return l, nil
}

// readAt fills b. A container that ends early is ErrTruncated.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	switch n, err := r.ReadAt(b, off); {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	default:
		return fmt.Errorf("read model container: %w", err)
	}
}

// IsModel tells whether a file that begins so is an encrypted model, of whatever
// content.
func IsModel(head []byte) bool { return bytes.HasPrefix(head, []byte(headerMagic)) }
