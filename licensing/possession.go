package licensing

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"hash"
	"io"
)

// Purpose separates what a key signs for one reason from what it signs for any
// other. No purpose is the beginning of a JWS or of a certificate, which the
// same keys sign, too.
type Purpose string

// The purposes.
const (
	PurposeFile       Purpose = "ovsa-file-signature/v1"      // keygen -sign, by the primary key
	PurposePossession Purpose = "ovsa-proof-of-possession/v1" // a licence server's challenge, by the secondary key
)

// digest is the SHA-384 of the purpose, a zero byte and what r holds.
func (p Purpose) digest(r io.Reader) (hash.Hash, error) {
	h := sha512.New384()
	io.WriteString(h, string(p)+"\x00")
	_, err := io.Copy(h, r)
	return h, err
}

// SignBytes signs what r holds for a purpose: ECDSA in ASN.1.
func SignBytes(key *ecdsa.PrivateKey, p Purpose, r io.Reader) ([]byte, error) {
	h, err := p.digest(r)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// VerifyBytes returns nil when a certificate's key signed what r holds for this
// purpose, and ErrSignature when it did not.
func VerifyBytes(cert *x509.Certificate, p Purpose, r io.Reader, sig []byte) error {
	key, err := p384(cert)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	h, err := p.digest(r)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !ecdsa.VerifyASN1(key, h.Sum(nil), sig) {
		return fmt.Errorf("verify: %w", ErrSignature)
	}
	return nil
}
