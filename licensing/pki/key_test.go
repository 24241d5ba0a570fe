package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
)

func TestReadKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(blockType string, der []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	pkcs8 := encode("PRIVATE KEY", der, err)
	der, err = x509.MarshalECPrivateKey(key)
	sec1 := encode("EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(other)
	edwards := encode("PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	public := encode("PUBLIC KEY", der, err)
	path := filepath.Join(t.TempDir(), "a.key")
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string // of the error; "" for none
	}{
		"PKCS #8":            {pkcs8, 0o600, ""},
		"openssl ecparam":    {encode("EC PARAMETERS", []byte{6, 0}, nil) + sec1, 0o600, ""},
		"read-only":          {pkcs8, 0o400, ""},
		"another kind":       {edwards, 0o600, ""},
		"others may read it": {pkcs8, 0o640, "others may read it"},
		"others may write":   {pkcs8, 0o602, "others may read it"},
		"two":                {pkcs8 + pkcs8, 0o600, "not one private key in PEM"},
		"text behind it":     {pkcs8 + "x", 0o600, "not one private key in PEM"},
		"none":               {"", 0o600, "not one private key in PEM"},
		"a public key":       {public, 0o600, "not a private key"},
		"damaged":            {encode("PRIVATE KEY", []byte("secret"), nil), 0o600, "not a private key"},
		"with a passphrase":  {encode("ENCRYPTED PRIVATE KEY", der, nil), 0o600, "it has a passphrase"},
		"too long":           {strings.Repeat("x", maxKeyFile+1), 0o600, "not a file of at most"},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadKey(path)
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !got.Equal(key) && !got.Equal(other) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("key"), 0o644), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); !strings.Contains(hint.Of(err), "chmod 600 ") {
		t.Errorf("hint: %s", hint.Of(err))
	}

	// What is written is read.
	os.Remove(path)
	staged, err := StageKey(path, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := staged.Create(); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKey(path); err != nil || !got.Equal(key) {
		t.Errorf("written: %v", err)
	}
}
