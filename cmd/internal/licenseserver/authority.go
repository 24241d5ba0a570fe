package licenseserver

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// The files of the attestation authority. Its certificate is there last.
const (
	authorityKey  = "attestation.key"
	authorityCert = "attestation.crt"
	allowList     = "hosts.allow"
)

// authorityYears is how long hosts can be certified. Each one's certificate is
// for a year at most.
const authorityYears = 10

const allowListHead = `# The hosts that may be enrolled, one in a line: the host id that
# "ovsactl host enroll" prints, or the SHA-256 of its EK certificate, in hex, and
# after it the UUIDs of the guests that it may vouch for, none for any.
`

func authorityCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "gencert-attestation", Summary: "make the authority that certifies hosts, and the list of those that may be enrolled",
		Flags: []guestcli.Flag{dirFlag(), jsonFlag()},
		Run:   run(func(_ context.Context, s session) error { return s.certDir().explain(s.certDir().makeAuthority(s)) }),
	}
}

// makeAuthority makes an authority where there is none.
func (d certDir) makeAuthority(s session) error {
	there, err := d.has(authorityCert)
	if err != nil {
		return err
	}
	if there {
		return hint.Wrap(fmt.Errorf("write %q: %w", d.path(authorityCert), fs.ErrExist), "hosts are certified by it; without it their guests get no keys")
	}
	cert, err := d.certify(s.Now())
	if err != nil {
		return err
	}
	s.Say("%s: list the hosts that may be enrolled there", d.path(allowList))
	return s.Report(installed{d.path(authorityCert), cert.Subject.String(), licensing.PinOf(cert).String(), cert.NotAfter.UTC()},
		"%s: pin %s, until %s", d.path(authorityCert), licensing.PinOf(cert), day(cert.NotAfter))
}

// certify makes the authority's key, its list and its certificate. It finishes what a
// run that was killed left.
func (d certDir) certify(now time.Time) (*x509.Certificate, error) {
	key, err := d.keyOrNew(authorityKey)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "OVSA attestation authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make attestation authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make attestation authority: %w", err)
	}
	if err := d.makeAllowList(); err != nil {
		return nil, err
	}
	return cert, atomicfile.WriteOwned(d.path(authorityCert), pki.EncodePEM(cert), public)
}

func (d certDir) makeAllowList() error {
	staged, err := atomicfile.Stage(d.path(allowList), public, func(w io.Writer) error {
		_, err := io.WriteString(w, allowListHead)
		return err
	})
	if err != nil {
		return err
	}
	if err := staged.Own(); err != nil {
		return err
	}
	if err := staged.Create(); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// authority is the server's attestation authority, nil when it has none.
func (d certDir) authority() (*Authority, error) {
	certs, err := pki.ReadFile(d.path(authorityCert))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := d.key(authorityKey)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%q is not for the key in %q", d.path(authorityCert), d.path(authorityKey))
	}
	return &Authority{certs[0], key, d.path(allowList)}, nil
}
