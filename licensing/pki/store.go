package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/owner"
)

// Store is a directory of the certificates that are believed: authorities, and
// self-signed certificates of single parties. Each is a file NAME.pem or NAME.crt
// with one certificate.
type Store struct{ dir string }

// Anchor is a certificate in a Store.
type Anchor struct {
	ID          string // SHA-256 of the certificate in hex
	Path        string
	Certificate *x509.Certificate
}

// NewStore returns the store in dir, which need not exist yet.
func NewStore(dir string) Store { return Store{dir} }

// Fingerprint is how a Store names a certificate.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// List returns the anchors in the order of their files. A file that is not one
// certificate is an error: it may be one that somebody relies on.
func (s Store) List() ([]Anchor, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read trust store: %w", err)
	}
	if err := checkOwner(s.dir); err != nil {
		return nil, err
	}
	var anchors []Anchor
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".pem" && ext != ".crt" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		if err := checkOwner(path); err != nil {
			return nil, err
		}
		certs, err := ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read trust store: %w", err)
		}
		if len(certs) != 1 {
			return nil, fmt.Errorf("read trust store: %q has %d certificates, want 1", path, len(certs))
		}
		anchors = append(anchors, Anchor{Fingerprint(certs[0]), path, certs[0]})
	}
	return anchors, nil
}

// checkOwner refuses what others could make believe in.
func checkOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read trust store: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return hint.Wrap(fmt.Errorf("read trust store: others may write to %q", path), "chmod go-w %s, and see whether you know all that is believed: trust ls", path)
	}
	return nil
}

// Add puts a certificate into the store, made with its directory when it does not
// exist. A certificate that is there already is no error.
func (s Store) Add(c *x509.Certificate) (Anchor, error) {
	anchors, err := s.List()
	if err != nil {
		return Anchor{}, err
	}
	for _, a := range anchors {
		if bytes.Equal(a.Certificate.Raw, c.Raw) {
			return a, nil
		}
	}
	if !c.IsCA && !IsSelfSigned(c) {
		return Anchor{}, hint.Wrap(fmt.Errorf("trust %q: it is neither an authority's certificate nor self-signed", c.Subject), "add the certificate of its issuer, %q", c.Issuer)
	}
	if err := owner.MkdirAll(s.dir, 0o755); err != nil {
		return Anchor{}, fmt.Errorf("trust %q: %w", c.Subject, err)
	}
	a := Anchor{Fingerprint(c), filepath.Join(s.dir, Fingerprint(c)+".pem"), c}
	if err := atomicfile.WriteOwned(a.Path, EncodePEM(c), 0o644); err != nil { // public
		return Anchor{}, fmt.Errorf("trust %q: %w", c.Subject, err)
	}
	return a, nil
}

// minID is how much of an ID names an anchor.
const minID = 8

// Remove takes the anchor whose ID begins with id out of the store.
func (s Store) Remove(id string) (Anchor, error) {
	anchors, err := s.List()
	if err != nil {
		return Anchor{}, err
	}
	if len(id) < minID {
		return Anchor{}, fmt.Errorf("distrust %q: give at least %d digits of its SHA-256", id, minID)
	}
	var found []Anchor
	for _, a := range anchors {
		if strings.HasPrefix(a.ID, strings.ToLower(id)) {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return Anchor{}, fmt.Errorf("distrust %q: %d certificates have that SHA-256", id, len(found))
	}
	if err := os.Remove(found[0].Path); err != nil {
		return Anchor{}, fmt.Errorf("distrust %q: %w", id, err)
	}
	return found[0], atomicfile.SyncDir(s.dir)
}

// ReadFile parses a file of certificates.
func ReadFile(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > MaxFile {
		return nil, fmt.Errorf("read certificate %q: %w: not a file of at most %d bytes", path, ErrFile, MaxFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read certificate %q: %w", path, err)
	}
	certs, err := ParsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("read certificate %q: %w", path, err)
	}
	return certs, nil
}
