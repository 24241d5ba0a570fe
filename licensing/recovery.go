package licensing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// ErrPassphrase says that a recovery passphrase is not the key store's, or was
// mistyped.
var ErrPassphrase = errors.New("the recovery passphrase is wrong")

// alphabet is Crockford's base 32: no i, l, o and u.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// The shape of a passphrase: 26 characters for 128 bits and 4 that check them, in
// groups of 5.
const (
	passphraseBytes = 16
	passphraseChars = 26
	checkChars      = 4
	groupChars      = 5
)

// Passphrase opens a key store without its TPM. It has 128 random bits, prints as
// [redacted], and is shown once by Reveal.
type Passphrase struct{ p func() *[passphraseBytes]byte } // a func: see Key

func newPassphrase() Passphrase {
	b := new([passphraseBytes]byte)
	rand.Read(b[:])
	return Passphrase{func() *[passphraseBytes]byte { return b }}
}

// Reveal returns what its owner writes down: six groups of five characters.
func (p Passphrase) Reveal() string {
	chars := encode32(p.p()[:], passphraseChars) + check32(p.p()[:])
	var groups []string
	for len(chars) > 0 {
		groups = append(groups, chars[:groupChars])
		chars = chars[groupChars:]
	}
	return strings.Join(groups, "-")
}

// ParsePassphrase parses what Reveal showed, in any case, however it is spaced,
// and with o for 0 and i or l for 1. A typing error is found by the passphrase's
// own check. Errors do not repeat it.
func ParsePassphrase(s string) (Passphrase, error) {
	if len(s) > 256 {
		return Passphrase{}, fmt.Errorf("%w: it has six groups of five characters", ErrPassphrase)
	}
	s = strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(s))
	if len(s) != passphraseChars+checkChars {
		return Passphrase{}, fmt.Errorf("%w: it has six groups of five characters", ErrPassphrase)
	}
	b := new([passphraseBytes]byte)
	if !decode32(b[:], s[:passphraseChars]) || check32(b[:]) != s[passphraseChars:] {
		return Passphrase{}, fmt.Errorf("%w: it is mistyped", ErrPassphrase)
	}
	return Passphrase{func() *[passphraseBytes]byte { return b }}, nil
}

// Wipe overwrites the passphrase.
func (p Passphrase) Wipe() {
	if p.p != nil {
		clear(p.p()[:])
	}
}

func (p Passphrase) String() string             { return redacted }
func (p Passphrase) GoString() string           { return redacted }
func (p Passphrase) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
func (p Passphrase) LogValue() slog.Value       { return slog.StringValue(redacted) }
func (p Passphrase) MarshalText() ([]byte, error) {
	return nil, errors.New("a passphrase is not to be encoded")
}

// encode32 spells b in n characters, most significant bit first, zero bits behind.
func encode32(b []byte, n int) string {
	out := make([]byte, n)
	for i := range out {
		var v byte
		for j := range 5 {
			if bit := i*5 + j; bit/8 < len(b) && b[bit/8]&(0x80>>(bit%8)) != 0 {
				v |= 0x10 >> j
			}
		}
		out[i] = alphabet[v]
	}
	return string(out)
}

// decode32 undoes encode32, and is false for what encode32 does not make.
func decode32(b []byte, s string) bool {
	clear(b)
	for i := range len(s) {
		v := strings.IndexByte(alphabet, s[i])
		for j := range 5 {
			if v < 0 || v&(0x10>>j) == 0 {
				continue
			}
			bit := i*5 + j
			if bit/8 >= len(b) {
				return false
			}
			b[bit/8] |= 0x80 >> (bit % 8)
		}
		if v < 0 {
			return false
		}
	}
	return true
}

func check32(b []byte) string {
	sum := sha256.Sum256(append([]byte("ovsa-passphrase-check/v1\x00"), b...))
	return encode32(sum[:], checkChars)
}

// recovery is a key store's key under its passphrase: AES-256-GCM under
// scrypt(passphrase, salt, 2^15, 8, 1), with the store's GUID as additional data.
type recovery struct {
	Salt    []byte `json:"salt"`
	Nonce   []byte `json:"nonce"`
	Wrapped []byte `json:"wrapped"`
}

const scryptN, scryptR, scryptP = 1 << 15, 8, 1

func (p Passphrase) aead(salt []byte) (cipher.AEAD, error) {
	key, err := scrypt.Key(p.p()[:], salt, scryptN, scryptR, scryptP, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newGCM(key)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (p Passphrase) wrap(k Key, store GUID) (*recovery, error) {
	r := &recovery{Salt: random(16), Nonce: random(12)}
	aead, err := p.aead(r.Salt)
	if err != nil {
		return nil, err
	}
	r.Wrapped = aead.Seal(nil, r.Nonce, k.Bytes(), []byte(store))
	return r, nil
}

func (p Passphrase) unwrap(r *recovery, store GUID) (Key, error) {
	aead, err := p.aead(r.Salt)
	if err != nil {
		return Key{}, err
	}
	plain, err := aead.Open(nil, r.Nonce, r.Wrapped, []byte(store))
	if err != nil {
		return Key{}, fmt.Errorf("%w: it is another key store's", ErrPassphrase)
	}
	return TakeKey(plain)
}

func (r *recovery) check() error {
	if len(r.Salt) != 16 || len(r.Nonce) != 12 || len(r.Wrapped) != KeySize+16 {
		return errors.New("its recovery has other sizes")
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
