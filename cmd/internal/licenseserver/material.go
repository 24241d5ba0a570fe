package licenseserver

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// Material are the keys that a server has, and what it believes.
type Material struct {
	TLS         tls.Certificate // its leaf alone: the one that licences pin
	ReleaseKeys []*ecdsa.PrivateKey
	ISVs        pki.Verifier
	Customers   pki.Verifier
	// TPMVendors are the roots of hosts' endorsement certificates; Attestation are
	// the authorities for hosts' attestation keys.
	TPMVendors  []*x509.Certificate
	Attestation []*x509.Certificate
	Authority   *Authority // of this server; nil: it enrols no hosts
}

func (d certDir) verifier(purpose string, now func() time.Time, status pki.StatusSource) pki.Verifier {
	return pki.Verifier{Store: pki.NewStore(d.path("trust/" + purpose)), Now: now, Status: status}
}

// material reads all of a server's keys and trust, and refuses what does not fit
// together.
func (d certDir) material(now func() time.Time, status pki.StatusSource) (Material, error) {
	m := Material{ISVs: d.verifier("isv", now, status), Customers: d.verifier("customer", now, status)}
	leaf, release, err := d.bundle(bundle)
	if err != nil {
		return Material{}, err
	}
	if err := checkServerCert(leaf, now()); err != nil {
		return Material{}, fmt.Errorf("%q: %w", d.path(bundle), err)
	}
	key, err := d.keyFor(leaf)
	if err != nil {
		return Material{}, err
	}
	m.TLS = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	if m.ReleaseKeys, err = d.releaseKeys(release); err != nil {
		return Material{}, err
	}
	for _, k := range m.ReleaseKeys {
		if k.PublicKey.Equal(leaf.PublicKey) {
			return Material{}, errors.New("one key is used for TLS and for key release")
		}
	}
	if m.Authority, err = d.authority(); err != nil {
		return Material{}, err
	}
	if m.Authority != nil {
		m.Attestation = append(m.Attestation, m.Authority.Certificate)
	}
	for _, store := range d.stores().All {
		anchors, err := pki.NewStore(store.Dir).List()
		if err != nil {
			return Material{}, err
		}
		for _, a := range anchors {
			switch store.For {
			case "tpm-vendor":
				m.TPMVendors = append(m.TPMVendors, a.Certificate)
			case "attestation":
				m.Attestation = append(m.Attestation, a.Certificate)
			}
		}
	}
	return m, nil
}

// keyFor returns the key of the certificate in use.
func (d certDir) keyFor(leaf *x509.Certificate) (*ecdsa.PrivateKey, error) {
	key, err := d.key(tlsKey)
	if err == nil && key.PublicKey.Equal(leaf.PublicKey) {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if next, nextErr := d.key(nextKey); nextErr == nil && next.PublicKey.Equal(leaf.PublicKey) {
		return next, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, hint.Wrap(fmt.Errorf("%q is not for the key in %q", d.path(bundle), d.path(tlsKey)), "license_server install-cert CERTIFICATE KEY puts a pair into use")
}

// releaseKeys reads the key-release keys, that of a certificate first: in server.crt
// it may be the future one still, while provision-new-cert is under way.
func (d certDir) releaseKeys(first *x509.Certificate) ([]*ecdsa.PrivateKey, error) {
	names, err := filepath.Glob(d.path(oldRelease))
	if err != nil {
		return nil, fmt.Errorf("read keys in %q: %w", d, err)
	}
	var keys []*ecdsa.PrivateKey
	found := false
	for _, path := range append([]string{d.path(releaseKey), d.path(nextRelease)}, names...) {
		key, err := readKey(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case key.PublicKey.Equal(first.PublicKey):
			found = true
			keys = append([]*ecdsa.PrivateKey{key}, keys...)
		default:
			keys = append(keys, key)
		}
	}
	if !found {
		return nil, fmt.Errorf("%q: its second certificate is not for the key in %q", d.path(bundle), d.path(releaseKey))
	}
	return keys, nil
}
