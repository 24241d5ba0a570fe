// Package nv is how a record lies in a TPM's non-volatile memory: as a frame
// cut into indices from Base on. The frame only tells a whole record from a
// missing or half-written one; whether the record is true is vtpm/quote's task.
//
// The frame is the magic "OVB1", the record's length as 4 bytes big-endian, the
// record, and the SHA-256 of all before it.
package nv

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

const (
	Base  = 0x01500000 // the first index; the platform's range
	Chunk = 1024       // bytes per index, which is also what one command can carry
	Max   = 32 << 10   // bytes of a record

	// MaxIndices is how many indices the longest record takes.
	MaxIndices = (header + Max + sha256.Size + Chunk - 1) / Chunk

	magic  = "OVB1"
	header = 8
)

// Errors that Join and ReadRecord return, wrapped with what was seen.
var (
	ErrNoRecord = errors.New("no record in the TPM")
	ErrTorn     = errors.New("the record in the TPM is incomplete or damaged")
)

// Chunks frames a record and cuts it: element i belongs at index Base+i, which
// is to be exactly as long. The caller keeps the record within Max; a longer
// one gives nil.
func Chunks(record []byte) [][]byte {
	if len(record) > Max {
		return nil
	}
	frame := make([]byte, 0, header+len(record)+sha256.Size)
	frame = append(frame, magic...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(record)))
	frame = append(frame, record...)
	sum := sha256.Sum256(frame)
	frame = append(frame, sum[:]...)
	var chunks [][]byte
	for len(frame) > Chunk {
		chunks = append(chunks, frame[:Chunk:Chunk])
		frame = frame[Chunk:]
	}
	return append(chunks, frame)
}

// Join returns the record that Chunks cut. No chunks are ErrNoRecord, and
// anything but the exact chunks of one record is ErrTorn.
func Join(chunks [][]byte) ([]byte, error) {
	if len(chunks) == 0 {
		return nil, ErrNoRecord
	}
	total, err := frameLen(chunks[0])
	if err != nil {
		return nil, err
	}
	frame := bytes.Join(chunks, nil)
	if len(frame) != total {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrTorn, len(frame), total)
	}
	for _, c := range chunks[:len(chunks)-1] {
		if len(c) != Chunk {
			return nil, fmt.Errorf("%w: a piece of %d bytes", ErrTorn, len(c))
		}
	}
	body, sum := frame[:total-sha256.Size], frame[total-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: the checksum does not match", ErrTorn)
	}
	return body[header:], nil
}

// frameLen is the length of the whole frame that first begins.
func frameLen(first []byte) (int, error) {
	if len(first) < header || string(first[:4]) != magic {
		return 0, fmt.Errorf("%w: it does not begin with %q", ErrTorn, magic)
	}
	n := binary.BigEndian.Uint32(first[4:header])
	if n > Max {
		return 0, fmt.Errorf("%w: it claims %d bytes", ErrTorn, n)
	}
	return header + int(n) + sha256.Size, nil
}

// ReadRecord reads the record from a TPM. Indices after its end are not read.
func ReadRecord(t transport.TPM) ([]byte, error) {
	first, err := ReadIndex(t, Base)
	if errors.Is(err, ErrNoIndex) {
		return nil, ErrNoRecord
	}
	if errors.Is(err, tpm2.TPMRCNVUninitialized) {
		return nil, fmt.Errorf("%w: its first index is defined but was never written", ErrTorn)
	}
	if err != nil {
		return nil, err
	}
	total, err := frameLen(first)
	if err != nil {
		return nil, err
	}
	chunks := [][]byte{first}
	for have := len(first); have < total; {
		next, err := ReadIndex(t, Base+uint32(len(chunks)))
		switch {
		case errors.Is(err, ErrNoIndex), errors.Is(err, tpm2.TPMRCNVUninitialized):
			return nil, fmt.Errorf("%w: index %#x is not there", ErrTorn, Base+len(chunks))
		case err != nil:
			return nil, err
		case len(next) == 0 || len(chunks) == MaxIndices:
			return nil, fmt.Errorf("%w: it has more pieces than a record can", ErrTorn)
		}
		have += len(next)
		chunks = append(chunks, next)
	}
	return Join(chunks)
}
