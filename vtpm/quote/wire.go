package quote

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// wire reads TPM structures: big-endian integers and sized buffers. The first
// error sticks, so that a parser is a plain list of fields.
type wire struct {
	rest []byte
	err  error
}

var errShort = errors.New("it ends early")

func (w *wire) take(n int) []byte {
	if w.err == nil && n > len(w.rest) {
		w.err = errShort
	}
	if w.err != nil {
		return make([]byte, min(n, 8))
	}
	b := w.rest[:n:n]
	w.rest = w.rest[n:]
	return b
}

func (w *wire) u8() uint8   { return w.take(1)[0] }
func (w *wire) u16() uint16 { return binary.BigEndian.Uint16(w.take(2)) }
func (w *wire) u32() uint32 { return binary.BigEndian.Uint32(w.take(4)) }
func (w *wire) u64() uint64 { return binary.BigEndian.Uint64(w.take(8)) }

// buffer reads a TPM2B of at most limit bytes.
func (w *wire) buffer(limit int) []byte {
	n := int(w.u16())
	if w.err == nil && n > limit {
		w.err = fmt.Errorf("a field of %d bytes, over the limit of %d", n, limit)
	}
	return w.take(n)
}

// end is the first error, or that bytes are left.
func (w *wire) end() error {
	if w.err == nil && len(w.rest) > 0 {
		return fmt.Errorf("%d bytes follow it", len(w.rest))
	}
	return w.err
}

// Values of the TPM 2.0 Library specification, part 2.
const (
	algRSA    = 0x0001
	algSHA1   = 0x0004
	algSHA256 = 0x000b
	algSHA384 = 0x000c
	algSHA512 = 0x000d
	algNull   = 0x0010
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
	algECDH   = 0x0019
	algECC    = 0x0023

	curveP256 = 0x0003
	curveP384 = 0x0004

	generatedMagic = 0xff544347
	typeCertify    = 0x8017
	typeQuote      = 0x8018

	handleNull        = 0x40000007
	handleEndorsement = 0x4000000b
)

// attest is a TPMS_ATTEST that holds a quote or says which key is in the TPM.
type attest struct {
	magic    uint32
	kind     uint16
	signer   []byte
	extra    []byte
	clock    Clock
	safe     uint8
	firmware uint64

	selection []selection // of a quote
	digest    []byte

	name      []byte // of a certified key
	qualified []byte
}

type selection struct {
	hash uint16
	mask []byte
}

// parseAttest parses the header of any attestation, and the rest when it is of
// the kind that is wanted, a quote or a certification; the caller judges magic
// and kind.
func parseAttest(b []byte, want uint16) (attest, error) {
	w := &wire{rest: b}
	a := attest{magic: w.u32(), kind: w.u16()}
	if w.err == nil && (a.magic != generatedMagic || a.kind != want) {
		return a, nil
	}
	a.signer, a.extra = w.buffer(66), w.buffer(64)
	a.clock = Clock{Millis: w.u64(), ResetCount: w.u32(), RestartCount: w.u32()}
	a.safe, a.firmware = w.u8(), w.u64()
	if a.kind == typeCertify {
		a.name, a.qualified = w.buffer(66), w.buffer(66)
		return a, w.end()
	}
	count := w.u32()
	if w.err == nil && count > 16 {
		return a, fmt.Errorf("%d PCR selections", count)
	}
	for i := uint32(0); i < count && w.err == nil; i++ {
		hash, size := w.u16(), int(w.u8())
		a.selection = append(a.selection, selection{hash, w.take(size)})
	}
	a.digest = w.buffer(64)
	return a, w.end()
}
