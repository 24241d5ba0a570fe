package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// maxKeyFile is how long a file of a private key may be, in bytes.
const maxKeyFile = 16 << 10

// Key is a private key that signs, and can be told from others.
type Key interface {
	crypto.Signer
	Equal(crypto.PrivateKey) bool
}

// ReadKey reads a private key in PEM that nobody else may read: PKCS #8, or what
// openssl ecparam -genkey writes.
func ReadKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read key: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return nil, fmt.Errorf("read key %q: not a file of at most %d bytes", path, maxKeyFile)
	case info.Mode().Perm()&0o077 != 0:
		return nil, hint.Wrap(fmt.Errorf("read key %q: others may read it", path), "chmod 600 %s, and make another one if somebody did", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read key %q: %w", path, err)
	}
	defer clear(text)
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("read key %q: %w", path, err)
	}
	return key, nil
}

// parseKey parses a private key. Its errors quote nothing of it.
func parseKey(text []byte) (Key, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one private key in PEM")
	}
	defer clear(block.Bytes)
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("it has a passphrase, which nobody could give at a restart")
	default:
		return nil, errors.New("not a private key")
	}
	signer, signs := key.(Key)
	if err != nil || !signs {
		return nil, errors.New("not a private key")
	}
	return signer, nil
}

// StageKey makes the file of a private key, PKCS #8 in PEM, which its owner alone may
// read: the owner of the directory that it is in. It is not in its place yet.
func StageKey(path string, key crypto.PrivateKey) (*atomicfile.Staged, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	staged, err := atomicfile.Stage(path, 0o600, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := staged.Own(); err != nil {
		return nil, err
	}
	return staged, nil
}
