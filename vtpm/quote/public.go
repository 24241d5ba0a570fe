package quote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Object attributes, part 2 of the specification, section 8.3.
const (
	attrFixedTPM            = 1 << 1
	attrFixedParent         = 1 << 4
	attrSensitiveDataOrigin = 1 << 5
	attrRestricted          = 1 << 16
	attrDecrypt             = 1 << 17
	attrSign                = 1 << 18

	attrsAK = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrRestricted | attrSign
)

// public is a TPMT_PUBLIC of an RSA or ECC key.
type public struct {
	nameAlg    uint16
	attributes uint32
	symmetric  uint16
	scheme     uint16
	hash       uint16 // the scheme's
	key        crypto.PublicKey
	name       []byte
}

// parsePublic parses a TPMT_PUBLIC and the key in it. It does not judge the key.
func parsePublic(b []byte) (public, error) {
	w := &wire{rest: b}
	kind := w.u16()
	p := public{nameAlg: w.u16(), attributes: w.u32()}
	w.buffer(64) // authPolicy
	p.symmetric = w.u16()
	if w.err == nil && p.symmetric != algNull {
		w.take(4) // key bits, mode
	}
	if p.scheme = w.u16(); w.err == nil && p.scheme != algNull {
		p.hash = w.u16()
	}
	var err error
	switch {
	case w.err != nil:
		return p, w.err
	case kind == algRSA:
		p.key, err = w.rsaKey()
	case kind == algECC:
		p.key, err = w.eccKey()
	default:
		return p, fmt.Errorf("a key of type %#x, neither RSA nor ECC", kind)
	}
	if err == nil {
		err = w.end()
	}
	if err == nil && p.nameAlg != algSHA256 {
		err = fmt.Errorf("name algorithm %#x, want SHA-256", p.nameAlg)
	}
	p.name = objectName(b)
	return p, err
}

func (w *wire) rsaKey() (crypto.PublicKey, error) {
	bits, exponent, n := int(w.u16()), w.u32(), w.buffer(512)
	if w.err != nil {
		return nil, w.err
	}
	if exponent == 0 {
		exponent = 65537
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}
	if key.N.BitLen() != bits || len(n)*8 != bits {
		return nil, fmt.Errorf("an RSA modulus of %d bits in a key of %d", key.N.BitLen(), bits)
	}
	return key, nil
}

func (w *wire) eccKey() (crypto.PublicKey, error) {
	curveID := w.u16()
	if kdf := w.u16(); w.err == nil && kdf != algNull {
		w.take(2)
	}
	x, y := w.buffer(66), w.buffer(66)
	if w.err != nil {
		return nil, w.err
	}
	var curve elliptic.Curve
	switch curveID {
	case curveP256:
		curve = elliptic.P256()
	case curveP384:
		curve = elliptic.P384()
	default:
		return nil, fmt.Errorf("a key on curve %#x, neither P-256 nor P-384", curveID)
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x) > size || len(y) > size {
		return nil, errors.New("a point coordinate longer than the curve's field")
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// checkAK judges a public area as an attestation key's.
func (p public) checkAK() error {
	if missing := attrsAK &^ p.attributes; missing != 0 {
		return fmt.Errorf("attributes %#x lack fixedTPM, fixedParent, sensitiveDataOrigin, restricted or sign (%#x)", p.attributes, missing)
	}
	if p.attributes&attrDecrypt != 0 {
		return errors.New("the key may also decrypt")
	}
	if p.symmetric != algNull {
		return errors.New("the key has a symmetric algorithm, as storage keys do")
	}
	if !strongHash(p.hash) {
		return fmt.Errorf("signing scheme with hash %#x, want SHA-256 or longer", p.hash)
	}
	switch key := p.key.(type) {
	case *rsa.PublicKey:
		if p.scheme != algRSASSA && p.scheme != algRSAPSS {
			return fmt.Errorf("signing scheme %#x of an RSA key, want RSASSA or RSAPSS", p.scheme)
		}
		return checkRSA(key)
	case *ecdsa.PublicKey:
		if p.scheme != algECDSA {
			return fmt.Errorf("signing scheme %#x of an ECC key, want ECDSA", p.scheme)
		}
		return nil
	}
	return errors.New("no key")
}

func checkRSA(key *rsa.PublicKey) error {
	if key.N.BitLen() < 2048 || key.N.Bit(0) == 0 {
		return fmt.Errorf("an RSA modulus of %d bits, want 2048 or more and odd", key.N.BitLen())
	}
	if key.E < 65537 || key.E%2 == 0 {
		return fmt.Errorf("RSA exponent %d, want 65537 or more and odd", key.E)
	}
	return nil
}

// objectName is the TPM name of a public area with name algorithm SHA-256.
func objectName(pub []byte) []byte {
	sum := sha256.Sum256(pub)
	return append([]byte{0, algSHA256}, sum[:]...)
}

// ekPolicy is the TCG EK Credential Profile's PolicyA for SHA-256.
var ekPolicy = []byte("\x83\x71\x97\x67\x44\x84\xb3\xf8\x1a\x90\xcc\x8d\x46\xa5\xd7\x24" +
	"\xfd\x52\xd7\x6e\x06\x52\x0b\x64\xf2\xa1\xda\x1b\x33\x14\x69\xaa")

// EKName is the TPM name of an endorsement key that was made from the TCG
// template L-1 (RSA 2048) or L-2 (ECC P-256), from its certificate's key alone.
func EKName(key crypto.PublicKey) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, algRSA)
	if _, ok := key.(*ecdsa.PublicKey); ok {
		b = binary.BigEndian.AppendUint16(nil, algECC)
	}
	b = append(b, 0, algSHA256, 0x00, 0x03, 0x00, 0xb2, 0, 32)
	b = append(b, ekPolicy...)
	b = append(b, 0, 6, 0, 128, 0, 0x43, 0, algNull) // AES-128 CFB, no scheme
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 2048 || key.E != 65537 {
			return nil, fmt.Errorf("no standard template for an RSA key of %d bits", key.N.BitLen())
		}
		b = append(b, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00)
		return objectName(append(b, key.N.Bytes()...)), nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || key.Curve != elliptic.P256() {
			return nil, errors.New("no standard template for an ECC key not on P-256")
		}
		b = append(b, 0, curveP256, 0, algNull, 0, 32)
		b = append(b, point[1:33]...)
		b = append(b, 0, 32)
		return objectName(append(b, point[33:]...)), nil
	}
	return nil, fmt.Errorf("no standard template for a key of type %T", key)
}

// sameKey says whether two public keys are equal.
func sameKey(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	}
	return false
}
