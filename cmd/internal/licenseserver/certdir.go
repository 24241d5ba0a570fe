package licenseserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/owner"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// The files of a server's keys. server.crt is there last, and so tells that the
// others are complete. Its key is in server.key; while provision-new-cert is
// under way it may be in server_future.key still.
const (
	tlsKey      = "server.key"
	tlsRequest  = "server.csr"
	bundle      = "server.crt" // the TLS certificate, then the key-release certificate
	nextKey     = "server_future.key"
	nextRequest = "server_future.csr"
	nextBundle  = "server_future.crt"
	releaseKey  = "release.key"
	nextRelease = "release_future.key"
	oldRelease  = "release-*.key" // further keys, of licences that were sold for them
)

// Modes of the files.
const (
	private = 0o600
	public  = 0o644
)

// certDir is the directory of a server's keys and certificates.
type certDir string

func (d certDir) path(name string) string { return filepath.Join(string(d), name) }

func (d certDir) has(name string) (bool, error) {
	_, err := os.Lstat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// key reads a private key that nobody else may read.
func (d certDir) key(name string) (*ecdsa.PrivateKey, error) { return readKey(d.path(name)) }

// newKey makes a key and its file, which must not be there.
func (d certDir) newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, d.create(name, key)
}

// create writes a key's file, which must not be there.
func (d certDir) create(name string, key *ecdsa.PrivateKey) error {
	staged, err := pki.StageKey(d.path(name), key)
	if err != nil {
		return err
	}
	return staged.Create()
}

// keyOrNew returns the key in a file, and makes both where there is none.
func (d certDir) keyOrNew(name string) (*ecdsa.PrivateKey, error) {
	key, err := d.key(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.newKey(name)
	}
	return key, err
}

// bundle reads a TLS certificate and the key-release certificate behind it.
func (d certDir) bundle(name string) (tls, release *x509.Certificate, err error) {
	certs, err := pki.ReadFile(d.path(name))
	if err != nil {
		return nil, nil, err
	}
	if len(certs) != 2 {
		return nil, nil, fmt.Errorf("%q has %d certificates: want the TLS certificate and the key-release certificate", d.path(name), len(certs))
	}
	return certs[0], certs[1], nil
}

// writeBundle writes a TLS certificate, and behind it one that a key-release key
// signs for itself.
func (d certDir) writeBundle(name string, tls *x509.Certificate, release string, subject pki.Subject, now time.Time) error {
	key, err := d.keyOrNew(release)
	if err != nil {
		return err
	}
	if key.PublicKey.Equal(tls.PublicKey) {
		return errors.New("the TLS certificate has the key-release key: they must differ")
	}
	cert, err := pki.SelfSigned(key, subject, x509.KeyUsageKeyAgreement, now)
	if err != nil {
		return err
	}
	return atomicfile.WriteOwned(d.path(name), pki.EncodePEM(tls, cert), public)
}

// checkServerCert refuses a certificate that clients of the server would.
func checkServerCert(c *x509.Certificate, now time.Time) error {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P384():
		return hint.Wrap(errors.New("the certificate has no P-384 key"), "have the request signed that gencert wrote")
	case c.IsCA:
		return errors.New("the certificate is an authority's: the server's own comes first in its file")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the certificate is not for signatures, which TLS needs")
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate ended on %s", c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate begins on %s", c.NotBefore.UTC().Format(time.DateOnly))
	}
	if len(c.ExtKeyUsage) == 0 {
		return nil
	}
	for _, usage := range c.ExtKeyUsage {
		if usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny {
			return nil
		}
	}
	return errors.New("the certificate is not for servers")
}

// readKey reads a P-384 key in PEM that nobody else may read.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := pki.ReadKey(path)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P384() {
		return nil, fmt.Errorf("read key %q: not a P-384 key", path)
	}
	return ec, nil
}

// explain adds what to do about an error of the directory's files.
func (d certDir) explain(err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) || !strings.HasPrefix(filepath.Clean(at.Path)+"/", filepath.Clean(string(d))+"/") {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrPermission) && owner.Name(at.Path) != owner.Name(string(d)):
		return hint.Wrap(err, "%s owns it, and not %s as its directory: chown --reference=%s %s", owner.Name(at.Path), owner.Name(string(d)), d, at.Path)
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(err, "run it as the owner of %s: sudo -u ovsa ...", strings.TrimSuffix(string(d), "/"))
	case errors.Is(err, fs.ErrNotExist) && hint.Of(err) == "":
		return hint.Wrap(err, "make keys and certificates first: license_server gencert")
	}
	return err
}
