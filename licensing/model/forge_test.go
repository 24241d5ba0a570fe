package model

import (
	"bytes"
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"lukechampine.com/blake3"

	"github.com/ovsactl/ovsactl/licensing"
)

// double multiplies by x in the field of GHASH, whose bits are written from the
// left.
func double(hi, lo uint64) (uint64, uint64) {
	carry := lo & 1
	lo = lo>>1 | hi<<63
	hi >>= 1
	if carry == 1 {
		hi ^= 0xe1 << 56
	}
	return hi, lo
}

// multiply multiplies two blocks in the field of GHASH.
func multiply(a, b [16]byte) (out [16]byte) {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var x, y uint64
	for i := range 128 {
		if a[i/8]>>(7-i%8)&1 == 1 {
			x, y = x^hi, y^lo
		}
		hi, lo = double(hi, lo)
	}
	binary.BigEndian.PutUint64(out[:8], x)
	binary.BigEndian.PutUint64(out[8:], y)
	return out
}

// forge changes one block of the first file's first chunk as it likes, and
// repairs the tag in the next. All it needs is the model key.
func forge(t *testing.T, key licensing.Key, dat []byte) []byte {
	t.Helper()
	h, err := readHeader(bytes.NewReader(dat), int64(len(dat)))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := newRoot(key, h.salt)
	if err != nil {
		t.Fatal(err)
	}
	fileKey, err := hkdf.Expand(sha256.New, keys, fileLabel+"\x00\x00\x00\x00", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	var hash, change [16]byte
	block.Encrypt(hash[:], hash[:])
	copy(change[:], "any change of it")
	repair := multiply(change, hash)
	forged := slices.Clone(dat)
	for i := range 16 {
		forged[headerSize+32+i] ^= change[i]
		forged[headerSize+48+i] ^= repair[i]
	}
	return forged
}

// TestKeyHoldersCannotForge is why the table has digests: without them whoever
// has the key can change a model under its vendor's signature.
func TestKeyHoldersCannotForge(t *testing.T) {
	data := content(1000)
	s := testSealer()
	s.TagsOnly = true
	out, err := attempt(t, forge(t, testKey(), seal(t, s, file{"f", data})))
	if err != nil || bytes.Equal(out["f"], data) {
		t.Errorf("tags alone: the forgery was refused (%v): then the digests are not needed", err)
	}
	s.TagsOnly = false
	out, err = attempt(t, forge(t, testKey(), seal(t, s, file{"f", data})))
	if !errors.Is(err, ErrTampered) || len(out["f"]) > 0 {
		t.Errorf("with digests: %d bytes, %v", len(out["f"]), err)
	}
}

// The same after Open, with the digest in the table changed too.
func TestKeyHoldersCannotForgeAfterOpen(t *testing.T) {
	good := seal(t, testSealer(), file{"f", content(1000)})
	r := &changing{good}
	c, err := testOpener().Open(t.Context(), r, int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	c.table.last = nil // as if another piece had been read since
	r.b = forge(t, testKey(), good)
	sum := blake3.Sum256(r.b[headerSize : headerSize+1000])
	copy(r.b[regions(t, good)[2].from+tagSize:], sum[:])
	m, err := c.Unlock(testKey())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := m.Decrypt(t.Context(), &out, "f"); !errors.Is(err, ErrTampered) || out.Len() > 0 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}
