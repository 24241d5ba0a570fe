package quote

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// ReleaseLabel separates the hash that an attestation key signs for a release key
// from every other use of it.
const ReleaseLabel = "ovsa-release-key/v1\x00"

// ReleaseExtraData is the qualifying data of a certification: SHA-256 of
// ReleaseLabel, then the nonce after its length as 4 bytes big-endian.
func ReleaseExtraData(nonce []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(ReleaseLabel))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(nonce))))
	h.Write(nonce)
	return [32]byte(h.Sum(nil))
}

// Certification is an attestation key's word that a release key is in its TPM: a
// P-256 key that agrees on secrets while the TPM's registers are as its policy
// says, and that cannot leave the TPM.
type Certification struct {
	Public    []byte `json:"public"`    // TPMT_PUBLIC of the release key
	Attest    []byte `json:"attest"`    // TPMS_ATTEST, no size prefix
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
}

// ReleaseName is the TPM name of a release key, from its TPMT_PUBLIC. It judges
// nothing.
func ReleaseName(public []byte) []byte { return objectName(public) }

// Attributes of a release key. Clear are, of those that matter, userWithAuth (a
// password would do instead of the policy), restricted, sign, and what lets a
// key be duplicated.
const (
	attrNoDA    = 1 << 10
	attrRelease = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrNoDA | attrDecrypt
)

// VerifyCertify returns the release key when ak, a TPMT_PUBLIC, certified it for
// a nonce that the caller gave out once, and when it works under exactly policy,
// which PolicyPCRDigest makes of the registers that were found good. Both keys
// have to be primary keys of the endorsement hierarchy. It proves nothing about
// ak: that takes MakeCredential.
func VerifyCertify(c Certification, ak, nonce, policy []byte) (*ecdh.PublicKey, error) {
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fmt.Errorf("verify release key: a nonce of %d bytes, want %d to %d", len(nonce), MinNonce, MaxNonce)
	}
	if len(policy) != sha256.Size {
		return nil, fmt.Errorf("verify release key: a policy of %d bytes", len(policy))
	}
	signer, err := parsePublic(ak)
	if err == nil {
		err = signer.checkAK()
	}
	if err != nil {
		return nil, fmt.Errorf("verify release key: attestation key: %w", err)
	}
	if err := c.checkAttest(signer, ReleaseExtraData(nonce), handleEndorsement); err != nil {
		return nil, fmt.Errorf("verify release key: %w", err)
	}
	key, err := releaseKey(c.Public, policy)
	if err != nil {
		return nil, fmt.Errorf("verify release key: %w", err)
	}
	return key, nil
}

// checkAttest insists that the attestation is signer's, a primary key of the
// endorsement hierarchy, with qualifying data extra, about c.Public, a primary key
// of the hierarchy with that handle.
func (c Certification) checkAttest(signer public, extra [32]byte, hierarchy uint32) error {
	a, err := parseAttest(c.Attest, typeCertify)
	if err != nil {
		return fmt.Errorf("parse attestation: %w", err)
	}
	if a.magic != generatedMagic {
		return fmt.Errorf("magic %#x: no TPM made this", a.magic)
	}
	if a.kind != typeCertify {
		return fmt.Errorf("type %#x does not certify a key", a.kind)
	}
	if err := verifySignature(signer, c.Signature, c.Attest); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if subtle.ConstantTimeCompare(a.extra, extra[:]) != 1 {
		return errors.New("the certification is for another nonce")
	}
	name := objectName(c.Public)
	if !bytes.Equal(a.name, name) {
		return errors.New("another key was certified")
	}
	if !bytes.Equal(a.signer, primaryName(handleEndorsement, signer.name)) {
		return errors.New("who certifies is no primary key of the endorsement hierarchy")
	}
	if !bytes.Equal(a.qualified, primaryName(hierarchy, name)) {
		return fmt.Errorf("the key is no primary key of the %s hierarchy", hierarchyNames[hierarchy])
	}
	return nil
}

var hierarchyNames = map[uint32]string{handleEndorsement: "endorsement", handleNull: "null"}

// primaryName is the qualified name of a primary key in a hierarchy, Part 1, 16.4.
func primaryName(hierarchy uint32, name []byte) []byte {
	return objectName(append(binary.BigEndian.AppendUint32(nil, hierarchy), name...))
}

// releaseKey is the key in a public area, which has to be to the byte that of a
// release key under policy.
func releaseKey(pub, policy []byte) (*ecdh.PublicKey, error) {
	head := []byte{0, algECC, 0, algSHA256}
	head = binary.BigEndian.AppendUint32(head, attrRelease)
	head = binary.BigEndian.AppendUint16(head, uint16(len(policy)))
	if !bytes.HasPrefix(pub, head) {
		return nil, errors.New("not an ECC key with the attributes of a release key")
	}
	rest, ok := bytes.CutPrefix(pub[len(head):], policy)
	if !ok {
		return nil, errors.New("its policy is not the one for these registers")
	}
	if !bytes.HasPrefix(rest, []byte{0, algNull, 0, algECDH, 0, algSHA256, 0, curveP256, 0, algNull}) {
		return nil, errors.New("not a key for ECDH on P-256 with SHA-256")
	}
	p, err := parsePublic(pub)
	if err != nil {
		return nil, fmt.Errorf("parse public area: %w", err)
	}
	key, ok := p.key.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("not an ECC key")
	}
	return key.ECDH()
}

// SealToRelease encrypts to a release key with HPKE (RFC 9180: DHKEM P-256,
// HKDF-SHA256, AES-256-GCM, base mode), the encapsulated key first. Only with the
// same info can it be opened.
func SealToRelease(key *ecdh.PublicKey, info, plaintext []byte) ([]byte, error) {
	pk, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("seal to release key: %w", err)
	}
	kdf, aead := ReleaseSuite()
	sealed, err := hpke.Seal(pk, kdf, aead, info, plaintext)
	if err != nil {
		return nil, fmt.Errorf("seal to release key: %w", err)
	}
	return sealed, nil
}

// ReleaseSuite is how SealToRelease encrypts with what the key agreed on.
func ReleaseSuite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.AES256GCM() }
