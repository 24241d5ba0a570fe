package vtpm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

// authority is the host's own CA for vTPMs: it has one level, and certifies
// nothing else.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// forever is RFC 5280's (4.1.2.5) date for what has no well-defined end: a vTPM
// lives as long as its VM.
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

const (
	caCert = "ca.pem"
	caKey  = "ca.key"
)

// authority loads the CA, which it makes first where there is none.
func (h *Host) authority(ctx context.Context) (*authority, error) {
	ca, err := h.loadAuthority()
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	l, err := h.lock(ctx, "ca")
	if err != nil {
		return nil, err
	}
	defer l.Release()
	if ca, err = h.loadAuthority(); !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	if err := h.makeAuthority(); err != nil {
		return nil, fmt.Errorf("make the vTPM CA: %w", err)
	}
	return h.loadAuthority()
}

func (h *Host) loadAuthority() (*authority, error) {
	roots, err := h.roots()
	if err != nil {
		return nil, err
	}
	path := h.dir("ca", caKey)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load the vTPM CA: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load the vTPM CA: others may read %q (mode %04o)", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load the vTPM CA: %w", err)
	}
	defer clear(data)
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("load the vTPM CA: no key in %q", path)
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load the vTPM CA: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(roots[0].PublicKey) {
		return nil, errors.New("load the vTPM CA: its key is not its certificate's")
	}
	return &authority{roots[0], ec}, nil
}

// roots is the certificate of the CA, without its key.
func (h *Host) roots() ([]*x509.Certificate, error) {
	certs, err := readCerts(h.dir("ca", caCert))
	if err != nil {
		return nil, fmt.Errorf("load the vTPM CA: %w", err)
	}
	return certs, nil
}

// makeAuthority makes key and certificate beside their place; both appear at
// once or not at all.
func (h *Host) makeAuthority() error {
	work := h.dir(".ca.new")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "ovsactl vTPM CA " + hex.EncodeToString(serial.Bytes()[:6])},
		NotBefore:             h.opts.Now().Add(-time.Minute).UTC(),
		NotAfter:              forever,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 0, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(secret)
	encoded := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	defer clear(encoded)
	if err := atomicfile.WriteFile(filepath.Join(work, caKey), encoded, 0o600); err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := atomicfile.WriteFile(filepath.Join(work, caCert), cert, 0o644); err != nil {
		return err
	}
	if err := os.Rename(work, h.dir("ca")); err != nil {
		return err
	}
	return atomicfile.SyncDir(h.dir())
}

// newSerial is a positive serial number of 16 random bytes (RFC 5280, 4.1.2.2).
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// readCerts reads all certificates of a PEM file.
func readCerts(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificate", path)
	}
	return certs, nil
}
