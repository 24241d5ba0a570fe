package model

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/ovsactl/ovsactl/licensing"
)

// Labels of what is derived from a model key.
const (
	commitLabel = "ovsa-model/v1 commitment"
	fileLabel   = "ovsa-model/v1 file" // and the file's index, 4 bytes
)

// root is the key from which one container's keys come: HKDF-Extract of the
// model key and the container's salt.
type root []byte

// A key that was never set, or was wiped, is refused.
func newRoot(key licensing.Key, salt [saltSize]byte) (root, error) {
	if reflect.ValueOf(key).IsZero() || subtle.ConstantTimeCompare(key.Bytes(), make([]byte, licensing.KeySize)) == 1 {
		return nil, fmt.Errorf("%w: it is empty", ErrKey)
	}
	return hkdf.Extract(sha256.New, key.Bytes(), salt[:])
}

func (r root) commitment() ([]byte, error) {
	return hkdf.Expand(sha256.New, r, commitLabel, sha256.Size)
}

// fileCipher encrypts and decrypts one file's chunks, in many goroutines.
type fileCipher struct {
	aead cipher.AEAD
	aad  [sha256.Size + 4]byte // header digest, file index
}

func (r root) file(header Digest, index int) (*fileCipher, error) {
	var i [4]byte
	binary.BigEndian.PutUint32(i[:], uint32(index))
	key, err := hkdf.Expand(sha256.New, r, fileLabel+string(i[:]), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	c := &fileCipher{aead: aead}
	copy(c.aad[:], header[:])
	copy(c.aad[sha256.Size:], i[:])
	return c, nil
}

// place is where a chunk is in its file.
type place struct {
	index uint64
	last  bool
}

func (c *fileCipher) nonce(p place) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:], p.index)
	if p.last {
		n[11] = 1
	}
	return n
}

func (c *fileCipher) additional(p place) []byte {
	return binary.BigEndian.AppendUint64(c.aad[:len(c.aad):len(c.aad)], p.index)
}

// seal encrypts chunk in place and returns ciphertext and tag. The chunk has
// room for the tag behind it.
func (c *fileCipher) seal(chunk []byte, p place) []byte {
	return c.aead.Seal(chunk[:0], c.nonce(p), chunk, c.additional(p))
}

// open decrypts ciphertext and tag in place.
func (c *fileCipher) open(sealed []byte, p place) ([]byte, error) {
	plain, err := c.aead.Open(sealed[:0], c.nonce(p), sealed, c.additional(p))
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}
