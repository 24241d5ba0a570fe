package model

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
)

// isv is a vendor with a P-384 key and a certificate, as ovsatool has them.
type isv struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newISV(t *testing.T) isv {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ISV"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return isv{key, cert}
}

func (i isv) sign(manifest []byte) ([]byte, error) {
	return licensing.SignModel(manifest, i.key, []*x509.Certificate{i.cert})
}

// verify trusts exactly this vendor's certificate.
func (i isv) verify(signed []byte) ([]byte, error) {
	manifest, chain, err := licensing.VerifyModel(signed)
	if err != nil {
		return nil, err
	}
	if !chain[0].Equal(i.cert) {
		return nil, licensing.ErrSigner
	}
	return manifest, nil
}

func TestVendorsSignModels(t *testing.T) {
	vendor, other := newISV(t), newISV(t)
	s := testSealer()
	s.Sign = vendor.sign
	var b bytes.Buffer
	sealed, err := s.Seal(t.Context(), &b, sources([]file{{"f", content(1000)}}))
	if err != nil {
		t.Fatal(err)
	}
	dat := b.Bytes()
	m := unlock(t, Opener{Verify: vendor.verify}, dat)
	if got := decrypt(t, m, "f"); !bytes.Equal(got, content(1000)) {
		t.Error("the file differs")
	}
	// The digest for licences is that of what was signed.
	r := regions(t, dat)[3]
	manifest, _, err := licensing.VerifyModel(dat[r.from:r.to])
	if err != nil || Digest(sha256.Sum256(manifest)) != sealed.Digest || m.Digest() != sealed.Digest {
		t.Errorf("digests %v and %v, %v", sealed.Digest, m.Digest(), err)
	}
	if _, err := (Opener{Verify: other.verify}).Open(t.Context(), bytes.NewReader(dat), int64(len(dat))); !errors.Is(err, ErrSignature) || !errors.Is(err, licensing.ErrSigner) {
		t.Errorf("another vendor: %v", err)
	}
	if _, _, err := licensing.VerifyModel(append(bytes.Clone(dat[r.from:r.to]), '\n', '{', '}')); err == nil {
		t.Error("bytes after the signature are ignored")
	}
}
