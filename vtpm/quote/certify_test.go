package quote

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"encoding/binary"
	"strings"
	"testing"
)

// certifySpec is all that a certification states, before it is signed by a key
// that obeys, as no TPM's does.
type certifySpec struct {
	ak     akSpec
	magic  uint32
	kind   uint16
	extra  []byte
	public []byte
	name   []byte // nil: of public
	signer []byte // nil: of ak
	whole  []byte // the qualified name; nil: of public, in hierarchy
	after  []byte

	hierarchy uint32
}

func newCertify(key *ecdsa.PublicKey) certifySpec {
	extra := ReleaseExtraData(testNonce)
	return certifySpec{
		ak: eccAK(keys().ak), magic: generatedMagic, kind: typeCertify,
		extra: extra[:], public: releasePublic(attrRelease, testReleasePolicy(), key), hierarchy: handleEndorsement,
	}
}

func testReleasePolicy() []byte {
	return must(PolicyPCRDigest([]PCR{{0, make([]byte, 32)}, {7, bytes.Repeat([]byte{7}, 32)}}))
}

func releasePublic(attributes uint32, policy []byte, key *ecdsa.PublicKey) []byte {
	b := []byte{0, algECC, 0, algSHA256}
	b = sized(binary.BigEndian.AppendUint32(b, attributes), policy)
	b = append(b, 0, algNull, 0, algECDH, 0, algSHA256, 0, curveP256, 0, algNull)
	point := must(key.Bytes())
	return sized(sized(b, point[1:33]), point[33:])
}

func (s certifySpec) sign() Certification {
	name := objectName(s.public)
	if s.name == nil {
		s.name = name
	}
	if s.whole == nil {
		s.whole = primaryName(s.hierarchy, name)
	}
	if s.signer == nil {
		s.signer = primaryName(handleEndorsement, objectName(s.ak.public()))
	}
	b := binary.BigEndian.AppendUint32(nil, s.magic)
	b = binary.BigEndian.AppendUint16(b, s.kind)
	b = sized(sized(b, s.signer), s.extra)
	b = append(b, make([]byte, 8+4+4)...)
	b = append(b, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(sized(sized(b, s.name), s.whole), s.after...)
	return Certification{Public: s.public, Attest: b, Signature: s.ak.sign(b)}
}

func TestVerifyCertify(t *testing.T) {
	key := newECC(elliptic.P256())
	s := newCertify(&key.PublicKey)
	got, err := VerifyCertify(s.sign(), s.ak.public(), testNonce, testReleasePolicy())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := SealToRelease(got, []byte("info"), []byte("half"))
	if err != nil {
		t.Fatal(err)
	}
	priv := must(hpke.NewDHKEMPrivateKey(must(key.ECDH())))
	kdf, aead := ReleaseSuite()
	if plain, err := hpke.Open(priv, kdf, aead, []byte("info"), sealed); err != nil || string(plain) != "half" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := hpke.Open(priv, kdf, aead, []byte("other"), sealed); err == nil {
		t.Error("opened with other info")
	}
}

func TestCertificationsThatFail(t *testing.T) {
	key, other := newECC(elliptic.P256()), newECC(elliptic.P256())
	pub, policy := &key.PublicKey, testReleasePolicy()
	with := func(bit uint32) []byte { return releasePublic(attrRelease^bit, policy, pub) }
	replace := func(b, old, new []byte) []byte {
		if !bytes.Contains(b, old) {
			t.Fatal("nothing to replace")
		}
		return bytes.Replace(b, old, new, 1)
	}
	good := releasePublic(attrRelease, policy, pub)
	cases := map[string]struct {
		change func(*certifySpec)
		want   string
	}{
		"forged magic":             {func(s *certifySpec) { s.magic = 0xdeadbeef }, "no TPM made this"},
		"a quote":                  {func(s *certifySpec) { s.kind = typeQuote }, "does not certify"},
		"bytes after it":           {func(s *certifySpec) { s.after = []byte{0} }, "1 bytes follow it"},
		"another nonce":            {func(s *certifySpec) { x := ReleaseExtraData(make([]byte, 32)); s.extra = x[:] }, "another nonce"},
		"the nonce itself":         {func(s *certifySpec) { s.extra = testNonce }, "another nonce"},
		"no nonce":                 {func(s *certifySpec) { s.extra = nil }, "another nonce"},
		"another key's name":       {func(s *certifySpec) { s.name = objectName([]byte("x")) }, "another key was certified"},
		"AK in another hierarchy":  {func(s *certifySpec) { s.signer = objectName([]byte("x")) }, "endorsement hierarchy"},
		"key in another hierarchy": {func(s *certifySpec) { s.whole = objectName([]byte("x")) }, "endorsement hierarchy"},
		"AK not restricted":        {func(s *certifySpec) { s.ak.attributes &^= attrRestricted }, "attestation key"},
		"AK may leave its TPM":     {func(s *certifySpec) { s.ak.attributes &^= attrFixedTPM }, "attestation key"},
		"used with a password":     {func(s *certifySpec) { s.public = with(1 << 6) }, "attributes"},
		"admin policy":             {func(s *certifySpec) { s.public = with(1 << 7) }, "attributes"},
		"not fixed to the TPM":     {func(s *certifySpec) { s.public = with(attrFixedTPM) }, "attributes"},
		"not fixed to its parent":  {func(s *certifySpec) { s.public = with(attrFixedParent) }, "attributes"},
		"made outside of the TPM":  {func(s *certifySpec) { s.public = with(attrSensitiveDataOrigin) }, "attributes"},
		"signs too":                {func(s *certifySpec) { s.public = with(attrSign) }, "attributes"},
		"restricted":               {func(s *certifySpec) { s.public = with(attrRestricted) }, "attributes"},
		"does not decrypt":         {func(s *certifySpec) { s.public = with(attrDecrypt) }, "attributes"},
		"no policy":                {func(s *certifySpec) { s.public = releasePublic(attrRelease, nil, pub) }, "attributes"},
		"another policy":           {func(s *certifySpec) { s.public = releasePublic(attrRelease, make([]byte, 32), pub) }, "policy is not"},
		"another scheme":           {func(s *certifySpec) { s.public = replace(good, []byte{0, algECDH}, []byte{0, algECDSA}) }, "not a key for ECDH"},
		"another curve": {func(s *certifySpec) {
			s.public = replace(good, []byte{0, curveP256, 0, algNull}, []byte{0, curveP384, 0, algNull})
		}, "not a key for ECDH"},
		"a point not on the curve":    {func(s *certifySpec) { s.public = append([]byte{}, good...); s.public[len(good)-1] ^= 1 }, "parse public area"},
		"bytes after the public area": {func(s *certifySpec) { s.public = append(append([]byte{}, good...), 0) }, "parse public area"},
		"a cut public area":           {func(s *certifySpec) { s.public = good[:len(good)-1] }, "parse public area"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newCertify(pub)
			c.change(&s)
			_, err := VerifyCertify(s.sign(), s.ak.public(), testNonce, policy)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	s := newCertify(pub)
	c := s.sign()
	if _, err := VerifyCertify(c, eccAK(other).public(), testNonce, policy); err == nil {
		t.Error("verified by another AK")
	}
	if _, err := VerifyCertify(c, s.ak.public(), testNonce, nil); err == nil {
		t.Error("verified under no policy")
	}
	if _, err := VerifyCertify(c, s.ak.public(), nil, policy); err == nil {
		t.Error("verified for no nonce")
	}
	c.Public = releasePublic(attrRelease, policy, &other.PublicKey)
	if _, err := VerifyCertify(c, s.ak.public(), testNonce, policy); err == nil {
		t.Error("verified for another key")
	}
}

// Any one bit counts.
func TestCertificationBits(t *testing.T) {
	key := newECC(elliptic.P256())
	s := newCertify(&key.PublicKey)
	ak, policy := s.ak.public(), testReleasePolicy()
	c := s.sign()
	for _, field := range []*[]byte{&c.Public, &c.Attest, &c.Signature} {
		whole := *field
		for i := range whole {
			bad := append([]byte{}, whole...)
			bad[i] ^= 1
			*field = bad
			if _, err := VerifyCertify(c, ak, testNonce, policy); err == nil {
				t.Errorf("byte %d of %d may be changed", i, len(whole))
			}
			*field = whole[:i]
			if _, err := VerifyCertify(c, ak, testNonce, policy); err == nil {
				t.Errorf("%d of %d bytes will do", i, len(whole))
			}
		}
		*field = whole
	}
}

func FuzzVerifyCertify(f *testing.F) {
	key := newECC(elliptic.P256())
	s := newCertify(&key.PublicKey)
	ak, policy := s.ak.public(), testReleasePolicy()
	good := s.sign()
	f.Add(good.Public, good.Attest, good.Signature, ak)
	f.Fuzz(func(t *testing.T, public, attest, signature, signer []byte) {
		got, err := VerifyCertify(Certification{public, attest, signature}, signer, testNonce, policy)
		if err == nil && bytes.Equal(signer, ak) && !bytes.Equal(public, good.Public) {
			t.Errorf("verified: %x", public)
		}
		if err == nil && got.Curve() != ecdh.P256() {
			t.Error("not on P-256")
		}
	})
}

func TestMakeCredentialRefuses(t *testing.T) {
	name := must(AKName(eccAK(keys().ak).public()))
	secret := make([]byte, 32)
	weak := keys().ek.PublicKey
	weak.E = 1
	off := ecdsa.PublicKey{Curve: elliptic.P256(), X: keys().ak.X, Y: keys().ak.X} //nolint:staticcheck // made wrong on purpose
	for what, err := range map[string]error{
		"short secret":   errorOf(MakeCredential(&keys().ek.PublicKey, name, secret[:15])),
		"long secret":    errorOf(MakeCredential(&keys().ek.PublicKey, name, make([]byte, 33))),
		"no name":        errorOf(MakeCredential(&keys().ek.PublicKey, nil, secret)),
		"another hash":   errorOf(MakeCredential(&keys().ek.PublicKey, append([]byte{0, algSHA384}, name[2:]...), secret)),
		"RSA exponent 1": errorOf(MakeCredential(&weak, name, secret)),
		"off the curve":  errorOf(MakeCredential(&off, name, secret)),
		"unknown curve":  errorOf(MakeCredential(&newECC(elliptic.P521()).PublicKey, name, secret)),
		"not a key":      errorOf(MakeCredential("key", name, secret)),
		"not an AK":      errorOf(AKName(releasePublic(attrRelease, testReleasePolicy(), &keys().ak.PublicKey))),
		"AK and a byte":  errorOf(AKName(append(eccAK(keys().ak).public(), 0))),
		"AK that decrypts": func() error {
			a := eccAK(keys().ak)
			a.attributes |= attrDecrypt
			return errorOf(AKName(a.public()))
		}(),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// errorOf is the error of a call.
func errorOf(results ...any) error {
	err, _ := results[len(results)-1].(error)
	return err
}
