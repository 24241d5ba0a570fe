// Package pki is how parties to a licence know each other's keys: subjects,
// certificate requests and self-signed certificates, and the decision whether a
// certificate is to be believed.
//
// What is believed is a directory of certificates that somebody put there, a
// [Store], and nothing else: not the system's authorities, not a certificate's
// own signature, and no issuer that a certificate says where to find.
package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Limits of certificate files.
const (
	MaxFile         = 256 << 10
	maxCertificates = 8
)

// Why a certificate is refused. Callers tell them apart with errors.Is.
var (
	ErrFile      = errors.New("not a file of certificates")
	ErrUntrusted = errors.New("not trusted")
	ErrRevoked   = errors.New("revoked")
	ErrStatus    = errors.New("its revocation status is not known")
)

// ParsePEM parses a file of 1 to 8 certificates, the leaf first. Text between
// them is skipped; a private key among them is refused, because such a file was
// not meant to be passed on.
func ParsePEM(file []byte) ([]*x509.Certificate, error) {
	if len(file) == 0 || len(file) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrFile, len(file), MaxFile)
	}
	var certs []*x509.Certificate
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: it has a %s", ErrFile, printable(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		if certs = append(certs, cert); len(certs) > maxCertificates {
			return nil, fmt.Errorf("%w: more than %d certificates", ErrFile, maxCertificates)
		}
	}
	if bytes.Count(file, []byte("-----BEGIN ")) != len(certs) || len(certs) == 0 {
		return nil, fmt.Errorf("%w: it is no PEM, or a part of it is damaged", ErrFile)
	}
	return certs, nil
}

// printable is a PEM block's type as a message may show it.
func printable(blockType string) string {
	for _, c := range []byte(blockType) {
		if c < ' ' || c > '~' || len(blockType) > 64 {
			return "block of an unknown type"
		}
	}
	return blockType
}

// EncodePEM undoes ParsePEM.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// IsSelfSigned tells whether a certificate's own key signed it.
func IsSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}
