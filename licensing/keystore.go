package licensing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Why a key store is refused.
var (
	ErrKeyStore      = errors.New("the key store was changed, or its key is another one's")
	ErrNoCertificate = errors.New("the key store has no certificate for its key yet")
	ErrOtherKey      = errors.New("the certificate is of neither key of the key store")
)

// Sealer keeps a key store's key: a TPM does.
type Sealer interface {
	// Seal returns the secret in a form that Unseal alone undoes. It does not
	// keep secret.
	Seal(ctx context.Context, secret []byte) (json.RawMessage, error)
	// Unseal returns the secret, which is the caller's to wipe.
	Unseal(ctx context.Context, sealed json.RawMessage) ([]byte, error)
}

// Slot names one of a key store's two keys.
type Slot string

// The slots. The primary key signs documents and opens what is wrapped for its
// owner. The secondary key proves who asks a licence server, and nothing else.
const (
	Primary   Slot = "primary"
	Secondary Slot = "secondary"
)

const scalarSize = 48

// KeyStore is an open key store. Close it.
type KeyStore struct {
	file keyStoreFile
	key  Key // of the file
	keys map[Slot]*ecdsa.PrivateKey
}

// NewKeyStore makes two key pairs, kept by sealer, and the passphrase that opens
// them when sealer does not any more. Without a sealer the store is
// InsecureSoftware and has no passphrase.
func NewKeyStore(ctx context.Context, now time.Time, name string, sealer Sealer) (*KeyStore, Passphrase, error) {
	ks, pass, err := newKeyStore(ctx, now, name, sealer)
	if err != nil {
		return nil, Passphrase{}, fmt.Errorf("new key store: %w", err)
	}
	return ks, pass, nil
}

func newKeyStore(ctx context.Context, now time.Time, name string, sealer Sealer) (*KeyStore, Passphrase, error) {
	if err := checkText("name", name, MaxName); err != nil {
		return nil, Passphrase{}, err
	}
	ks := &KeyStore{key: NewKey(), keys: map[Slot]*ecdsa.PrivateKey{}}
	ks.file = keyStoreFile{Type: keyStoreType, Version: version, Name: name, GUID: NewGUID(), Created: instant(now)}
	for _, slot := range []Slot{Primary, Secondary} {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			return nil, Passphrase{}, err
		}
		ks.keys[slot] = key
		if ks.stored(slot).Public, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
			return nil, Passphrase{}, err
		}
	}
	if sealer == nil {
		ks.file.Protection, ks.file.SoftwareKey = InsecureSoftware, ks.key.Bytes()
		return ks, Passphrase{}, nil
	}
	ks.file.Protection = ProtectedByTPM
	if err := ks.seal(ctx, sealer); err != nil {
		return nil, Passphrase{}, err
	}
	pass := newPassphrase()
	var err error
	ks.file.Recovery, err = pass.wrap(ks.key, ks.file.GUID)
	return ks, pass, err
}

func (ks *KeyStore) seal(ctx context.Context, sealer Sealer) error {
	sealed, err := sealer.Seal(ctx, ks.key.Bytes())
	if err != nil {
		return err
	}
	if len(sealed) == 0 || len(sealed) > maxSealedKey {
		return fmt.Errorf("a sealed key of %d bytes", len(sealed))
	}
	ks.file.SealedKey = sealed
	return nil
}

// ParseKeyStore opens the file of a key store. sealer may be nil where the store
// is InsecureSoftware.
func ParseKeyStore(ctx context.Context, file []byte, sealer Sealer) (*KeyStore, error) {
	ks, err := openKeyStore(file, func(f keyStoreFile) (Key, error) {
		if f.Protection == InsecureSoftware {
			return TakeKey(append([]byte{}, f.SoftwareKey...))
		}
		if sealer == nil {
			return Key{}, hint.Wrap(errors.New("its key is sealed to a TPM, and there is none here"), "use it where it was made; keygen -reseal moves it with its recovery passphrase")
		}
		secret, err := sealer.Unseal(ctx, f.SealedKey)
		if err != nil {
			return Key{}, err
		}
		return TakeKey(secret)
	})
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return ks, nil
}

// RecoverKeyStore opens the file of a key store with its passphrase.
func RecoverKeyStore(file []byte, pass Passphrase) (*KeyStore, error) {
	ks, err := openKeyStore(file, func(f keyStoreFile) (Key, error) {
		if f.Recovery == nil {
			return Key{}, fmt.Errorf("a key store that is %s has no passphrase", f.Protection)
		}
		return pass.unwrap(f.Recovery, f.GUID)
	})
	if err != nil {
		return nil, fmt.Errorf("recover key store: %w", err)
	}
	return ks, nil
}

// openKeyStore decrypts the keys and compares them with the public ones.
func openKeyStore(file []byte, keyOf func(keyStoreFile) (Key, error)) (*KeyStore, error) {
	f, err := parseKeyStoreFile(file)
	if err != nil {
		return nil, err
	}
	aad, err := f.aad()
	if err != nil {
		return nil, err
	}
	ks := &KeyStore{file: f, keys: map[Slot]*ecdsa.PrivateKey{}}
	if ks.key, err = keyOf(f); err != nil {
		return nil, err
	}
	aead, err := newGCM(ks.key.Bytes())
	if err != nil {
		return nil, err
	}
	scalars, err := aead.Open(nil, f.Nonce, f.Sealed, aad)
	if err != nil {
		ks.Close()
		return nil, ErrKeyStore
	}
	defer clear(scalars)
	for i, slot := range []Slot{Primary, Secondary} {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalars[i*scalarSize:(i+1)*scalarSize])
		if err != nil {
			ks.Close()
			return nil, fmt.Errorf("%w: its %s key: %w", ErrKeyStore, slot, err)
		}
		ks.keys[slot] = key
		if pub, _, err := ks.stored(slot).parse(); err != nil || !pub.Equal(&key.PublicKey) {
			ks.Close()
			return nil, fmt.Errorf("%w: its %s keys are not a pair", ErrKeyStore, slot)
		}
	}
	return ks, nil
}

// Marshal returns the store's file, encrypted with a nonce that was never used.
func (ks *KeyStore) Marshal() ([]byte, error) {
	aad, err := ks.file.aad()
	if err != nil {
		return nil, fmt.Errorf("encode key store: %w", err)
	}
	aead, err := newGCM(ks.key.Bytes())
	if err != nil {
		return nil, fmt.Errorf("encode key store: %w", err)
	}
	var scalars []byte
	defer func() { clear(scalars) }()
	for _, slot := range []Slot{Primary, Secondary} {
		raw, err := ks.keys[slot].Bytes() // not to be wiped: it may be the key itself
		if err != nil {
			return nil, fmt.Errorf("encode key store: %w", err)
		}
		scalars = append(scalars, raw...)
	}
	f := ks.file
	f.Nonce = random(12)
	f.Sealed = aead.Seal(nil, f.Nonce, scalars, aad)
	out, err := marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode key store: %w", err)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("encode key store: %w", err)
	}
	return append(out, '\n'), nil
}

// Reseal gives the store's key to another sealer, or to the same one under another
// state. The passphrase stays.
func (ks *KeyStore) Reseal(ctx context.Context, sealer Sealer) error {
	if ks.file.Protection != ProtectedByTPM {
		return fmt.Errorf("reseal key store: it is %s", ks.file.Protection)
	}
	if err := ks.seal(ctx, sealer); err != nil {
		return fmt.Errorf("reseal key store: %w", err)
	}
	return nil
}

func (ks *KeyStore) stored(slot Slot) *storedKey {
	if slot == Secondary {
		return &ks.file.Secondary
	}
	return &ks.file.Primary
}

// Name, GUID and Protection are what the store says about itself.
func (ks *KeyStore) Name() string           { return ks.file.Name }
func (ks *KeyStore) GUID() GUID             { return ks.file.GUID }
func (ks *KeyStore) Protection() Protection { return ks.file.Protection }

// Key is a private key, which stays the store's.
func (ks *KeyStore) Key(slot Slot) *ecdsa.PrivateKey { return ks.keys[slot] }

// AddCertificate puts a certificate and its issuers into the slot whose key it
// has. Whether it is to be trusted is the caller's to decide.
func (ks *KeyStore) AddCertificate(chain []*x509.Certificate) (Slot, error) {
	var ders [][]byte
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	certs, err := parseChain(ders)
	if err != nil {
		return "", fmt.Errorf("add certificate: %w", err)
	}
	for _, slot := range []Slot{Primary, Secondary} {
		if ks.keys[slot].PublicKey.Equal(certs[0].PublicKey) {
			ks.stored(slot).Certificates = ders
			return slot, nil
		}
	}
	return "", fmt.Errorf("add certificate %q: %w", certs[0].Subject, ErrOtherKey)
}

// Certificates returns a key's certificate and its issuers, or ErrNoCertificate.
func (ks *KeyStore) Certificates(slot Slot) ([]*x509.Certificate, error) {
	_, chain, err := ks.stored(slot).parse()
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%w: %s", ErrNoCertificate, slot), "ovsatool keygen -storecert -c CERTIFICATE -k KEYSTORE")
	}
	return chain, nil
}

// Close wipes the keys, but for what the crypto packages keep of them.
func (ks *KeyStore) Close() {
	ks.key.Wipe()
	for _, key := range ks.keys {
		clear(key.D.Bits()) //nolint:staticcheck // there is no other way to wipe it, and the key is not used again
	}
	clear(ks.keys)
}

func (ks KeyStore) String() string             { return "key store " + string(ks.file.GUID) }
func (ks KeyStore) GoString() string           { return ks.String() }
func (ks KeyStore) Format(f fmt.State, _ rune) { io.WriteString(f, ks.String()) }
func (ks KeyStore) LogValue() slog.Value       { return slog.StringValue(ks.String()) }

// NewGUID returns a random (version 4) GUID.
func NewGUID() GUID {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return GUID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
