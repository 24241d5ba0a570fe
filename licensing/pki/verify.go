package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
)

// Verifier decides whether certificates are believed.
type Verifier struct {
	Store  Store
	Now    func() time.Time // nil: time.Now
	Status StatusSource     // of certificates that an authority issued
}

// StatusSource says whether a certificate was revoked.
type StatusSource interface {
	// Status returns nil for a certificate that is good, ErrRevoked for one that
	// is not, and ErrStatus where nobody says either.
	Status(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) error
}

// Verify returns the chain from a certificate to an anchor of the store. chain has
// the certificate and the issuers between, in any order. A self-signed certificate
// must be in the store itself. An issued one must lead to an authority there, with
// no certificate on the way revoked. Either is used only for as long as
// licensing.CertificateEnd says.
func (v Verifier) Verify(ctx context.Context, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("verify certificate: %w: there is none", ErrUntrusted)
	}
	verified, err := v.verify(ctx, chain)
	if err != nil {
		return nil, fmt.Errorf("verify certificate %q: %w", chain[0].Subject, err)
	}
	return verified, nil
}

func (v Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

func (v Verifier) verify(ctx context.Context, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	leaf, now := chain[0], v.now()
	anchors, err := v.Store.List()
	if err != nil {
		return nil, err
	}
	if err := licensing.CheckCertificateAge(leaf, now); err != nil {
		return nil, err
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("%w: it is not for signatures", ErrUntrusted)
	}
	for _, a := range anchors {
		// Whoever put it there believes it as it is, so its own signature, which
		// is costly to verify, says nothing more.
		if a.Certificate.Equal(leaf) && bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			return chain[:1], nil
		}
	}
	if IsSelfSigned(leaf) {
		return nil, hint.Wrap(fmt.Errorf("%w: it is self-signed, and not in the trust store %q", ErrUntrusted, v.Store.dir),
			"if you know whose it is: ovsatool trust add FILE (its SHA-256 is %s)", Fingerprint(leaf))
	}
	path, err := v.path(chain, anchors, now)
	if err != nil {
		return nil, err
	}
	for i, cert := range path[:len(path)-1] {
		if err := v.Status.Status(ctx, cert, path[i+1], now); err != nil {
			return nil, err
		}
	}
	return path, nil
}

// path builds the chain to an authority of the store.
func (v Verifier) path(chain []*x509.Certificate, anchors []Anchor, now time.Time) ([]*x509.Certificate, error) {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		if a.Certificate.IsCA && a.Certificate.BasicConstraintsValid {
			roots.AddCert(a.Certificate)
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("%w: %w", ErrUntrusted, err),
			"its file must have the issuers between, too, and the trust store %q the authority: ovsatool trust add FILE", v.Store.dir)
	}
	path := paths[0]
	for _, p := range paths[1:] {
		if len(p) < len(path) {
			path = p
		}
	}
	if len(path) < 2 {
		return nil, fmt.Errorf("%w: it is an authority's own", ErrUntrusted)
	}
	return path, nil
}
