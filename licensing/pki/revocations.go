package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"time"
)

// MaxRevocations is how long a file of revoked certificates may be, in bytes.
const MaxRevocations = 1 << 20

// ReadRevocations reads a file with one list of revoked certificates (RFC 5280, 5), in
// PEM. Whose it is, CheckSignatureFrom says.
func ReadRevocations(path string) (*x509.RevocationList, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxRevocations+1))
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	list, err := ParseRevocations(data)
	if err != nil {
		return nil, fmt.Errorf("read revocations %q: %w", path, err)
	}
	return list, nil
}

// ErrRevocations says that something is not a file of one list of revoked certificates.
var ErrRevocations = errors.New("not one list of revoked certificates in PEM")

// ParseRevocations parses what ReadRevocations reads.
func ParseRevocations(file []byte) (*x509.RevocationList, error) {
	if len(file) > MaxRevocations {
		return nil, fmt.Errorf("%w: over %d bytes", ErrRevocations, MaxRevocations)
	}
	block, rest := pem.Decode(file)
	if block == nil || block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, ErrRevocations
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRevocations, err)
	}
	return list, nil
}

// Revoke returns a list, in PEM, of those that are on another one, which may be nil, and
// of more serial numbers. It is good for as long as its issuer's certificate: one that
// is over lets nobody in.
func Revoke(last *x509.RevocationList, serials []*big.Int, issuer *x509.Certificate, key crypto.Signer, now time.Time) ([]byte, error) {
	next := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.UTC().Truncate(time.Second), NextUpdate: issuer.NotAfter}
	if last != nil {
		next.RevokedCertificateEntries = last.RevokedCertificateEntries
		if last.Number != nil {
			next.Number.Add(last.Number, next.Number)
		}
	}
	for _, serial := range serials {
		if !IsRevoked(next, serial) {
			next.RevokedCertificateEntries = append(next.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: next.ThisUpdate})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, next, issuer, key)
	if err != nil {
		return nil, fmt.Errorf("revoke certificates: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// IsRevoked says whether a certificate of a list's issuer is on it; nil has none.
func IsRevoked(list *x509.RevocationList, serial *big.Int) bool {
	if list == nil {
		return false
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}
