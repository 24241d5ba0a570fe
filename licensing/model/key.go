package model

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// KeySize is the length of a model key.
const KeySize = 32

const redacted = "[model key]"

// Key is the secret that opens a model. It has no text form: printing, logging
// and marshalling show that it is a key and nothing else. Copies of a Key share
// the secret, and Zero wipes it for all of them.
type Key struct{ secret *secret }

// secret is two pointers away from a Key, because fmt prints unexported fields
// of other structs without asking their methods, and follows one pointer.
type secret struct{ b *[KeySize]byte }

// NewKey makes a random key.
func NewKey() *Key {
	var b [KeySize]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return &Key{&secret{&b}}
}

// KeyFromBytes copies a key. The caller clears b.
func KeyFromBytes(b []byte) (*Key, error) {
	if len(b) != KeySize {
		return nil, fmt.Errorf("read model key: %d bytes, want %d", len(b), KeySize)
	}
	c := [KeySize]byte(b)
	return &Key{&secret{&c}}, nil
}

// Bytes returns a copy of the secret, to be wrapped for somebody. The caller
// clears it. It is nil for a key that was wiped.
func (k *Key) Bytes() []byte {
	if k.wiped() {
		return nil
	}
	return append(make([]byte, 0, KeySize), k.secret.b[:]...)
}

// Zero wipes the key and its copies. A wiped key opens nothing.
func (k *Key) Zero() {
	if !k.wiped() {
		clear(k.secret.b[:])
		k.secret.b = nil
	}
}

func (k *Key) wiped() bool { return k == nil || k.secret == nil || k.secret.b == nil }

func (Key) String() string             { return redacted }
func (Key) GoString() string           { return redacted }
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } // all verbs, %x and %d too
func (Key) LogValue() slog.Value       { return slog.StringValue(redacted) }
func (Key) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a model key is not to be marshalled")
}
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("a model key is not to be marshalled")
}
func (Key) MarshalBinary() ([]byte, error) {
	return nil, errors.New("a model key is not to be marshalled")
}
