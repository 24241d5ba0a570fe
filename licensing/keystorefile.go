package licensing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxKeyStore is the size of a key store's file at most.
const MaxKeyStore = 4 << 20

// Protection is what keeps a key store's key.
type Protection string

// The protections.
const (
	ProtectedByTPM   Protection = "tpm"
	InsecureSoftware Protection = "insecure-software" // nothing: whoever has the file has the keys
	keyStoreType                = "ovsa-key-store"
	maxSealedKey                = 64 << 10
)

// keyStoreFile is a key store as it lies on disk. All but Nonce and Sealed can be
// read by whoever has the file, and is authenticated by the encryption.
type keyStoreFile struct {
	Type        string          `json:"type"`
	Version     int             `json:"version"`
	Name        string          `json:"name"`
	GUID        GUID            `json:"guid"`
	Created     time.Time       `json:"created"`
	Protection  Protection      `json:"protection"`
	SealedKey   json.RawMessage `json:"sealed_key,omitempty"`   // what the Sealer made of the key
	SoftwareKey []byte          `json:"software_key,omitempty"` // the key itself, of InsecureSoftware
	Recovery    *recovery       `json:"recovery,omitempty"`
	Primary     storedKey       `json:"primary"`
	Secondary   storedKey       `json:"secondary"`
	Nonce       []byte          `json:"nonce,omitempty"`
	Sealed      []byte          `json:"sealed,omitempty"` // both private keys, AES-256-GCM under the key
}

type storedKey struct {
	Public       []byte   `json:"public"`                 // SPKI
	Certificates [][]byte `json:"certificates,omitempty"` // DER, the key's own first
}

// aad is the encoding of all that is not encrypted.
func (f keyStoreFile) aad() ([]byte, error) {
	f.Nonce, f.Sealed = nil, nil
	return marshal(f)
}

func parseKeyStoreFile(b []byte) (keyStoreFile, error) {
	var f keyStoreFile
	if err := unmarshal(bytes.TrimSuffix(b, []byte("\n")), &f, MaxKeyStore); err != nil {
		return f, err
	}
	if err := f.check(); err != nil {
		return f, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return f, nil
}

func (f keyStoreFile) check() error {
	if f.Type != keyStoreType || f.Version != version {
		return fmt.Errorf("a %q version %d", f.Type, f.Version)
	}
	if err := checkText("name", f.Name, MaxName); err != nil {
		return err
	}
	if err := f.GUID.check(); err != nil {
		return err
	}
	if err := checkInstant("creation time", f.Created); err != nil {
		return err
	}
	if len(f.Nonce) != 12 || len(f.Sealed) != 2*scalarSize+16 {
		return errors.New("its keys have another size")
	}
	if err := f.checkProtection(); err != nil {
		return err
	}
	for _, k := range []storedKey{f.Primary, f.Secondary} {
		if _, _, err := k.parse(); err != nil {
			return err
		}
	}
	return nil
}

func (f keyStoreFile) checkProtection() error {
	switch f.Protection {
	case ProtectedByTPM:
		if len(f.SealedKey) == 0 || len(f.SealedKey) > maxSealedKey || f.SoftwareKey != nil || f.Recovery == nil {
			return fmt.Errorf("what keeps its key is not a %s", f.Protection)
		}
		return f.Recovery.check()
	case InsecureSoftware:
		if len(f.SoftwareKey) != KeySize || f.SealedKey != nil || f.Recovery != nil {
			return fmt.Errorf("what keeps its key is not %s", f.Protection)
		}
		return nil
	}
	return fmt.Errorf("unknown protection %q", f.Protection)
}

// parse returns the key and its certificates, which are of that key.
func (k storedKey) parse() (*ecdsa.PublicKey, []*x509.Certificate, error) {
	any, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, nil, fmt.Errorf("public key: %w", err)
	}
	key, ok := any.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, nil, errors.New("public key: not a P-384 key")
	}
	if len(k.Certificates) == 0 {
		return key, nil, nil
	}
	chain, err := parseChain(k.Certificates)
	if err != nil {
		return nil, nil, err
	}
	if !key.Equal(chain[0].PublicKey) {
		return nil, nil, errors.New("a certificate of another key")
	}
	return key, chain, nil
}

// KeyStoreInfo is what a key store's file says without its key. Nothing of it is
// proven until the store is opened.
type KeyStoreInfo struct {
	Name       string
	GUID       GUID
	Created    time.Time
	Protection Protection
	SealedKey  json.RawMessage // of ProtectedByTPM
	Primary    KeyInfo
	Secondary  KeyInfo
}

// KeyInfo is one of a key store's keys.
type KeyInfo struct {
	Public       *ecdsa.PublicKey
	Certificates []*x509.Certificate // the key's own first; none before storecert
}

// ReadKeyStoreInfo parses the file of a key store.
func ReadKeyStoreInfo(file []byte) (KeyStoreInfo, error) {
	f, err := parseKeyStoreFile(file)
	if err != nil {
		return KeyStoreInfo{}, fmt.Errorf("read key store: %w", err)
	}
	info := KeyStoreInfo{Name: f.Name, GUID: f.GUID, Created: f.Created, Protection: f.Protection, SealedKey: f.SealedKey}
	for _, k := range []struct {
		to   *KeyInfo
		from storedKey
	}{{&info.Primary, f.Primary}, {&info.Secondary, f.Secondary}} {
		k.to.Public, k.to.Certificates, err = k.from.parse()
		if err != nil {
			return KeyStoreInfo{}, fmt.Errorf("read key store: %w", err)
		}
	}
	return info, nil
}
