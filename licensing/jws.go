package licensing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

// maxChain is how many certificates a document carries at most.
const maxChain = 8

// Document is the content of a signed file.
type Document interface {
	Kind() Kind
	// Check says what is wrong with the content by itself. Sign and Verify call it.
	Check() error
}

// Signed is a document whose signature was verified with its first certificate's
// key. Chain is what the file carries, leaf first. It is not verified: the caller
// checks it against what it trusts, or asks with SignedBy for a key it knows.
type Signed[D Document] struct {
	Document D
	Chain    []*x509.Certificate
}

// SignedBy returns nil when the signer's key is the key of cert, and ErrSigner
// otherwise.
func (s *Signed[D]) SignedBy(cert *x509.Certificate) error {
	key, ok := s.Chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !key.Equal(cert.PublicKey) {
		other := fmt.Sprintf("%q", s.Chain[0].Subject)
		if bytes.Equal(s.Chain[0].RawSubject, cert.RawSubject) {
			other = "another key of that name"
		}
		return fmt.Errorf("%s: %w: %s, not %q", s.Document.Kind(), ErrSigner, other, cert.Subject)
	}
	return nil
}

// payload is what is signed.
type payload[D Document] struct {
	Type     Kind `json:"type"`
	Version  int  `json:"version"`
	Document D    `json:"document"`
}

// envelope is a flattened JWS (RFC 7515, 7.2.2), in go-jose's order.
type envelope struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Signature string `json:"signature"`
}

// protected is the only header that a document may have.
type protected struct {
	Alg string   `json:"alg"`
	Typ Kind     `json:"typ"`
	X5C [][]byte `json:"x5c"` // DER, the signer's first
}

const version = 1

// Sign returns the file of a document, signed by key, which must be the P-384 key
// of chain's first certificate.
func Sign[D Document](d D, key crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	out, err := sign(d, key, chain)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", d.Kind(), err)
	}
	return out, nil
}

func sign[D Document](d D, key crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	body, err := marshal(payload[D]{d.Kind(), version, d})
	if err != nil {
		return nil, err
	}
	out, err := signBytes(d.Kind(), body, key, chain)
	if err != nil {
		return nil, err
	}
	if len(out) >= MaxDocument {
		return nil, fmt.Errorf("%d bytes: at most %d", len(out), MaxDocument)
	}
	return append(out, '\n'), nil
}

func signBytes(kind Kind, body []byte, key crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	var x5c [][]byte
	for _, c := range chain {
		x5c = append(x5c, c.Raw)
	}
	certs, err := parseChain(x5c)
	if err != nil {
		return nil, err
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || !pub.Equal(certs[0].PublicKey) {
		return nil, errors.New("the certificate is of another key")
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(kind)).WithHeader("x5c", x5c)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: cryptosigner.Opaque(key)}, opts)
	if err != nil {
		return nil, err
	}
	jws, err := signer.Sign(body)
	if err != nil {
		return nil, err
	}
	return []byte(jws.FullSerialize()), nil
}

// Verify parses a file and verifies its signature. A file of another kind is
// ErrKind, whatever else is right about it.
func Verify[D Document](file []byte) (*Signed[D], error) {
	var d D
	s, err := verify[D](file)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", d.Kind(), err)
	}
	return s, nil
}

func verify[D Document](file []byte) (*Signed[D], error) {
	var p payload[D]
	body, chain, err := verifyBytes(p.Document.Kind(), bytes.TrimSuffix(file, []byte("\n")), MaxDocument)
	if err != nil {
		return nil, err
	}
	if err := unmarshal(body, &p, MaxDocument); err != nil {
		return nil, err
	}
	if p.Type != p.Document.Kind() || p.Version != version {
		return nil, fmt.Errorf("%w: %q version %d in a %q", ErrFormat, p.Type, p.Version, p.Document.Kind())
	}
	if err := p.Document.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &Signed[D]{p.Document, chain}, nil
}

func verifyBytes(kind Kind, file []byte, max int) ([]byte, []*x509.Certificate, error) {
	head, err := parseHeader(file, max)
	if err != nil {
		return nil, nil, err
	}
	if head.Typ != kind {
		return nil, nil, fmt.Errorf("%w: %q", ErrKind, head.Typ)
	}
	chain, err := parseChain(head.X5C)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	jws, err := jose.ParseSignedJSON(string(file), []jose.SignatureAlgorithm{jose.ES384})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	body, err := jws.Verify(chain[0].PublicKey)
	if err != nil {
		return nil, nil, ErrSignature
	}
	return body, chain, nil
}

// SignModel signs the manifest of a model's container. It is for a Sealer of
// licensing/model.
func SignModel(manifest []byte, key crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	out, err := signBytes(KindModel, manifest, key, chain)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", KindModel, err)
	}
	return out, nil
}

// VerifyModel returns what SignModel signed, and by whom. Like Verify, it believes
// no certificate.
func VerifyModel(signed []byte) (manifest []byte, chain []*x509.Certificate, err error) {
	manifest, chain, err = verifyBytes(KindModel, signed, MaxModel)
	if err != nil {
		return nil, nil, fmt.Errorf("verify %s: %w", KindModel, err)
	}
	return manifest, chain, nil
}

// KindOf is the kind that a file says it is. Nothing is verified.
func KindOf(file []byte) (Kind, error) {
	head, err := parseHeader(bytes.TrimSuffix(file, []byte("\n")), MaxDocument)
	return head.Typ, err
}

func parseHeader(file []byte, max int) (protected, error) {
	var env envelope
	var head protected
	if err := unmarshal(file, &env, max); err != nil {
		return head, err
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(env.Protected)
	if err != nil {
		return head, fmt.Errorf("%w: its header is not base64url", ErrFormat)
	}
	if err := unmarshal(text, &head, max); err != nil {
		return head, err
	}
	if head.Alg != string(jose.ES384) {
		return head, fmt.Errorf("%w: algorithm %q, want %s", ErrFormat, head.Alg, jose.ES384)
	}
	return head, nil
}

// parseChain parses 1 to maxChain certificates of which the first has a P-384 key.
func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > maxChain {
		return nil, fmt.Errorf("%d certificates, want 1 to %d", len(ders), maxChain)
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse the signer's certificate: %w", err)
		}
		chain = append(chain, c)
	}
	if _, err := p384(chain[0]); err != nil {
		return nil, err
	}
	return chain, nil
}

// p384 returns a certificate's key, which must be on P-384.
func p384(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("the key of certificate %q is not a P-384 key", c.Subject)
	}
	return key, nil
}
