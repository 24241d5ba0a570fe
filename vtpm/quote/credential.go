package quote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Sizes of a secret that proves possession.
const (
	MinSecret = 16
	MaxSecret = 32
)

// AKName is the TPM name of an attestation key, from its TPMT_PUBLIC. It refuses
// a key that signs anything but what its TPM says.
func AKName(ak []byte) ([]byte, error) {
	p, err := parsePublic(ak)
	if err != nil {
		return nil, fmt.Errorf("parse attestation key: %w", err)
	}
	if err := p.checkAK(); err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	return p.name, nil
}

// EKCertKey is the key in an endorsement key's certificate, DER, that MakeCredential
// takes. It does not say whether the certificate is to be believed.
func EKCertKey(der []byte) (crypto.PublicKey, error) {
	cert, err := parseCert(der)
	if err != nil {
		return nil, fmt.Errorf("parse EK certificate: %w", err)
	}
	return cert.PublicKey, nil
}

// AKPublicKey is the key in an attestation key's TPMT_PUBLIC, which AKName has to
// accept.
func AKPublicKey(ak []byte) (crypto.PublicKey, error) {
	if _, err := AKName(ak); err != nil {
		return nil, err
	}
	p, err := parsePublic(ak)
	return p.key, err
}

// MakeCredential encrypts a secret so that only a TPM which has both this EK and
// the AK of that name gives it back (Part 1, 24). The EK is the key of a
// certificate that was verified, made from the TCG's template L-1 (RSA 2048),
// L-2 (ECC P-256) or H-3 (ECC P-384); the name is AKName's, of the very AK that
// is believed afterwards. The results are the contents of a TPM2B_ID_OBJECT and
// of a TPM2B_ENCRYPTED_SECRET, without their sizes.
func MakeCredential(ek crypto.PublicKey, akName, secret []byte) (credential, encryptedSecret []byte, err error) {
	if len(secret) < MinSecret || len(secret) > MaxSecret {
		return nil, nil, fmt.Errorf("make credential: a secret of %d bytes, want %d to %d", len(secret), MinSecret, MaxSecret)
	}
	if len(akName) != 2+32 || akName[0] != 0 || akName[1] != algSHA256 {
		return nil, nil, fmt.Errorf("make credential: %x is not a SHA-256 name", akName)
	}
	public, err := ekPublic(ek)
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	key, err := tpm2.ImportEncapsulationKey(&public)
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	credential, encryptedSecret, err = tpm2.CreateCredential(rand.Reader, key, akName, secret)
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	return credential, encryptedSecret, nil
}

// ekPublic is the public area of an EK, as far as encrypting to it takes.
func ekPublic(key crypto.PublicKey) (tpm2.TPMTPublic, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 2048 || key.E != 65537 || key.N.Bit(0) == 0 {
			return tpm2.TPMTPublic{}, fmt.Errorf("no standard template for an RSA key of %d bits with exponent %d", key.N.BitLen(), key.E)
		}
		public := tpm2.RSAEKTemplate
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
		return public, nil
	case *ecdsa.PublicKey:
		return eccEKPublic(key)
	}
	return tpm2.TPMTPublic{}, fmt.Errorf("no standard template for a key of type %T", key)
}

func eccEKPublic(key *ecdsa.PublicKey) (tpm2.TPMTPublic, error) {
	public, curve, bits := tpm2.ECCEKTemplate, tpm2.TPMECCNistP256, tpm2.TPMKeyBits(128)
	switch key.Curve {
	case elliptic.P256():
	case elliptic.P384():
		public.NameAlg, curve, bits = tpm2.TPMAlgSHA384, tpm2.TPMECCNistP384, 256
	default:
		return tpm2.TPMTPublic{}, fmt.Errorf("no standard template for a key on %s", key.Curve.Params().Name)
	}
	point, err := key.Bytes() // refuses what is not on the curve
	if err != nil {
		return tpm2.TPMTPublic{}, err
	}
	public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: curve,
	})
	size := len(point) / 2
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+size]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+size:]},
	})
	return public, nil
}
