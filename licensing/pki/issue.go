package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
)

// backdate is how long before its making a self-signed certificate begins, for
// those whose clocks are behind.
const backdate = 5 * time.Minute

// Request returns a certificate signing request in PEM.
func Request(key crypto.Signer, subject Subject) ([]byte, error) {
	template := &x509.CertificateRequest{RawSubject: subject, SignatureAlgorithm: x509.ECDSAWithSHA384}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// SelfSigned returns an X.509 version 3 certificate that key signs for itself, for
// as long as licences use one. Only those who put it into their Store believe it.
func SelfSigned(key crypto.Signer, subject Subject, usage x509.KeyUsage, now time.Time) (*x509.Certificate, error) {
	from := now.UTC().Add(-backdate).Truncate(time.Second)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	id := sha256.Sum256(spki)
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), RawSubject: subject, SignatureAlgorithm: x509.ECDSAWithSHA384,
		NotBefore: from, NotAfter: from.AddDate(0, licensing.CertificateMonths, 0),
		KeyUsage: usage, BasicConstraintsValid: true, SubjectKeyId: id[:20],
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// ForKeyAgreement tells whether a certificate lets its key agree on keys, as that
// of a primary certificate must: the halves of models' keys are encrypted to it. One
// that says nothing of its key's use lets it (RFC 5280, 4.2.1.3).
func ForKeyAgreement(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageKeyAgreement != 0
}
