package vtpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// AKCertificate is what a host has to show for its attestation key.
type AKCertificate struct {
	Problem   string // why there is none that can be used; "" when there is
	Issuer    string // SHA-256 of the authority's certificate, in hex
	NotBefore time.Time
	NotAfter  time.Time
}

// renewBefore is how long before its end a certificate is renewed.
const renewBefore = 30 * 24 * time.Hour

// Due tells whether a certificate is to be renewed: it ends within 30 days, and two
// thirds of its time are over. One that ends with its authority, which a renewal
// does not change, is not due again at once.
func (c AKCertificate) Due(now time.Time) bool {
	left := c.NotAfter.Sub(now)
	return left < renewBefore && left < c.NotAfter.Sub(c.NotBefore)/3
}

// AKCertificate looks at the certificate of the host's attestation key, and makes
// nothing. None, or one of no use, is no error.
func (h *Host) AKCertificate(ctx context.Context) (AKCertificate, error) {
	certs, err := readCerts(h.akCertPath())
	if errors.Is(err, fs.ErrNotExist) {
		return AKCertificate{Problem: "it is not enrolled"}, nil
	}
	if err != nil {
		return AKCertificate{}, fmt.Errorf("read the host's AK certificate: %w", err)
	}
	known, err := h.trust(akTrust)
	if err != nil {
		return AKCertificate{}, err
	}
	state, err := h.hostState(ctx)
	if err != nil {
		return AKCertificate{}, err
	}
	cert, now := certs[0], h.opts.Now()
	switch same, err := isOf(cert, state.ak); {
	case err != nil:
		return AKCertificate{}, err
	case !same:
		return AKCertificate{Problem: "its certificate is of another TPM or attestation key"}, nil
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return AKCertificate{Problem: "its certificate is valid from " + cert.NotBefore.UTC().Format(time.DateOnly) + " to " + cert.NotAfter.UTC().Format(time.DateOnly)}, nil
	}
	for _, c := range known {
		if bytes.Equal(c.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(c) == nil {
			return AKCertificate{Issuer: fingerprint(c), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}, nil
		}
	}
	return AKCertificate{Problem: "it was enrolled by an authority that this host does not believe"}, nil
}

// isOf tells whether a certificate is of an attestation key, of which there may be
// none.
func isOf(cert *x509.Certificate, ak []byte) (bool, error) {
	if ak == nil {
		return false, nil
	}
	key, err := quote.AKPublicKey(ak)
	if err != nil {
		return false, fmt.Errorf("the host's attestation key: %w", err)
	}
	return cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key), nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// VendorRoot is the certificate, of those that this host believes, that the one of
// its own TPM's endorsement key leads to. It is what somebody else has to believe to
// take this TPM for a real one.
func (h *Host) VendorRoot(ctx context.Context) (*x509.Certificate, error) {
	known, err := h.trust("trust")
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	err = h.withHostTPM(ctx, func(t transport.TPM) error {
		chain, err = h.ekChain(t)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the maker of the host's TPM: %w", err)
	case len(chain) == 0:
		return nil, noEKCert()
	}
	last := chain[len(chain)-1]
	for _, c := range known {
		if bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil {
			return c, nil
		}
	}
	if len(chain) > 1 {
		return last, nil // an authority below a root that this host does not have
	}
	return nil, hint.Wrap(fmt.Errorf("this host does not believe the maker of its own TPM, %q", issuer(chain[0].Raw)),
		"ovsactl trust add --for tpm-vendor FILE, with the certificate of that authority's root")
}

// Distrust makes the host believe an authority for attestation keys no longer, and
// removes the certificate that it issued. id is the SHA-256 of its certificate in
// hex. An authority that is not believed is no error.
func (h *Host) Distrust(id string) error {
	files, err := filepath.Glob(h.dir(akTrust, "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if ext := filepath.Ext(path); ext != ".pem" && ext != ".crt" {
			continue
		}
		certs, err := readCerts(path)
		if err != nil {
			return fmt.Errorf("read trust anchors: %w", err)
		}
		if len(certs) != 1 || fingerprint(certs[0]) != id {
			continue
		}
		// The certificate goes first: without it, whom it leads to does not matter.
		if err := h.removeAKCertOf(certs[0]); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("distrust authority: %w", err)
		}
		return atomicfile.SyncDir(h.dir(akTrust))
	}
	return nil
}

func (h *Host) removeAKCertOf(authority *x509.Certificate) error {
	certs, err := readCerts(h.akCertPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the host's AK certificate: %w", err)
	}
	if certs[0].CheckSignatureFrom(authority) != nil {
		return nil //nolint:nilerr // it is another authority's
	}
	if err := os.Remove(h.akCertPath()); err != nil {
		return fmt.Errorf("remove the host's AK certificate: %w", err)
	}
	return atomicfile.SyncDir(h.dir())
}
