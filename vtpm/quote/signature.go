package quote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hashes
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
)

// signature is a TPMT_SIGNATURE.
type signature struct {
	alg  uint16
	hash uint16
	rsa  []byte
	r, s []byte
}

func parseSignature(b []byte) (signature, error) {
	w := &wire{rest: b}
	sig := signature{alg: w.u16()}
	switch {
	case w.err != nil:
		return sig, w.err
	case sig.alg == algRSASSA || sig.alg == algRSAPSS:
		sig.hash, sig.rsa = w.u16(), w.buffer(512)
	case sig.alg == algECDSA:
		sig.hash, sig.r, sig.s = w.u16(), w.buffer(66), w.buffer(66)
	default:
		return sig, fmt.Errorf("algorithm %#x is none of RSASSA, RSAPSS and ECDSA", sig.alg)
	}
	return sig, w.end()
}

// verifySignature checks an AK's signature over message. The signature's
// algorithm and hash must be those that the AK is restricted to.
func verifySignature(ak public, sigBytes, message []byte) error {
	sig, err := parseSignature(sigBytes)
	if err != nil {
		return fmt.Errorf("parse signature: %w", err)
	}
	if sig.alg != ak.scheme || sig.hash != ak.hash {
		return fmt.Errorf("signed by scheme %#x with hash %#x, the key's are %#x and %#x", sig.alg, sig.hash, ak.scheme, ak.hash)
	}
	if !strongHash(sig.hash) {
		return fmt.Errorf("hash %#x, want SHA-256 or longer", sig.hash)
	}
	h := cryptoHash(sig.hash).New()
	h.Write(message)
	digest := h.Sum(nil)
	switch key := ak.key.(type) {
	case *rsa.PublicKey:
		return verifyRSA(key, sig, digest)
	case *ecdsa.PublicKey:
		return verifyECDSA(key, sig, digest)
	}
	return errors.New("no key to verify with")
}

func verifyRSA(key *rsa.PublicKey, sig signature, digest []byte) error {
	hash := cryptoHash(sig.hash)
	switch sig.alg {
	case algRSASSA:
		return rsa.VerifyPKCS1v15(key, hash, digest, sig.rsa)
	case algRSAPSS:
		return rsa.VerifyPSS(key, hash, digest, sig.rsa, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	}
	return fmt.Errorf("algorithm %#x with an RSA key", sig.alg)
}

func verifyECDSA(key *ecdsa.PublicKey, sig signature, digest []byte) error {
	if sig.alg != algECDSA {
		return fmt.Errorf("algorithm %#x with an ECC key", sig.alg)
	}
	r, s := new(big.Int).SetBytes(sig.r), new(big.Int).SetBytes(sig.s)
	order := key.Curve.Params().N
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return errors.New("r or s is not between 1 and the curve's order")
	}
	if !ecdsa.Verify(key, digest, r, s) {
		return errors.New("the signature is not the key's")
	}
	return nil
}

func strongHash(alg uint16) bool {
	return alg == algSHA256 || alg == algSHA384 || alg == algSHA512
}

// cryptoHash is the hash of a TPM algorithm for which strongHash holds.
func cryptoHash(alg uint16) crypto.Hash {
	switch alg {
	case algSHA384:
		return crypto.SHA384
	case algSHA512:
		return crypto.SHA512
	}
	return crypto.SHA256
}
