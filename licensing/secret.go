package licensing

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/ovsactl/ovsactl/internal/lockedmem"
)

// KeySize is the size of a model's key and of each of its halves.
const KeySize = 32

// Key is a secret of KeySize bytes. It prints as [redacted], refuses to be
// encoded, and is to be wiped when it is no longer needed. Copies share the bytes.
type Key struct {
	// A func, because fmt calls no methods of unexported fields, and prints what
	// a pointer points at when the verb does not fit.
	p func() *lockedmem.Buffer
}

func emptyKey() Key {
	b := lockedmem.New(KeySize)
	return Key{func() *lockedmem.Buffer { return b }}
}

// NewKey returns a random key.
func NewKey() Key {
	k := emptyKey()
	rand.Read(k.Bytes())
	return k
}

// TakeKey makes a key of b and wipes b.
func TakeKey(b []byte) (Key, error) {
	defer clear(b)
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("a key of %d bytes, want %d", len(b), KeySize)
	}
	k := emptyKey()
	copy(k.Bytes(), b)
	return k, nil
}

// Bytes are the key's own bytes and not a copy of them. They are the key's for as
// long as somebody has that.
func (k Key) Bytes() []byte { return k.p().Bytes() }

// Locked says whether the key is in memory that cannot be swapped. It is not where
// the kernel locks no more for this process.
func (k Key) Locked() bool { return k.p().Locked() }

// Wipe overwrites the key.
func (k Key) Wipe() {
	if k.p != nil {
		k.p().Wipe()
	}
}

const redacted = "[redacted]"

func (k Key) String() string                 { return redacted }
func (k Key) GoString() string               { return redacted }
func (k Key) Format(f fmt.State, _ rune)     { io.WriteString(f, redacted) }
func (k Key) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (k Key) MarshalText() ([]byte, error)   { return nil, errors.New("a key is not to be encoded") }
func (k Key) MarshalBinary() ([]byte, error) { return nil, errors.New("a key is not to be encoded") }

// Split returns two halves of k, each of which alone is random and says nothing
// about k. Join undoes it.
func Split(k Key) (customer, server Key) {
	customer = NewKey()
	return customer, Join(k, customer)
}

// Join returns the key of two halves.
func Join(a, b Key) Key {
	k := emptyKey()
	subtle.XORBytes(k.Bytes(), a.Bytes(), b.Bytes())
	return k
}
