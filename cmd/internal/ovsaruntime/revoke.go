package ovsaruntime

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// issuedName is the file of the certificates that were made for clients, a line for
// each: SERIAL END NAME. With -renew a client has several that are good.
const issuedName = "client_ca.issued"

// clients is the authority of a front's clients.
type clients struct {
	dir string
	ca  *pair
	now time.Time

	revoked *x509.RevocationList
}

// refuses says whether a front that believes it refuses a certificate: it is revoked,
// or by another authority, as one that was there before.
func (c *clients) refuses(cert *x509.Certificate) bool {
	return c != nil && (pki.IsRevoked(c.revoked, cert.SerialNumber) || cert.CheckSignatureFrom(c.ca.cert) != nil)
}

// beginAuthority makes room for a new authority. What the one before has said is
// forgotten: nobody believes its certificates any more, and its list would have nginx
// refuse those of the new one. One whose key is elsewhere stays.
func beginAuthority(dir string) error {
	_, cert := os.Stat(filepath.Join(dir, caName+".pem"))
	_, key := os.Stat(filepath.Join(dir, caName+".key"))
	if cert == nil && errors.Is(key, fs.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("%s.pem is there without its key: it is another's authority", caName), "whoever has its key makes clients' certificates; or move it away, and one is made here")
	}
	for _, name := range []string{crlName, issuedName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("begin with a new authority: %w", err)
		}
	}
	return nil
}

// revocations are the certificates that are revoked; nil for no list.
func (c clients) revocations() (*x509.RevocationList, error) {
	path := filepath.Join(c.dir, crlName)
	list, err := pki.ReadRevocations(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := list.CheckSignatureFrom(c.ca.cert); err != nil {
		return nil, hint.Wrap(fmt.Errorf("%q is not by the authority in %s.pem: %w", path, caName, err), "whoever made it revokes with it; or move it away")
	}
	return list, nil
}

// issued is a certificate that was made.
type issued struct {
	serial *big.Int
	until  time.Time
	name   string
}

// all are the certificates that were made and have not ended.
func (c clients) all() (all []issued, err error) {
	path := filepath.Join(c.dir, issuedName)
	data, err := guestcli.ReadFile(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var i issued
		words := strings.Fields(lines.Text())
		if len(words) == 3 {
			var ok bool
			i.serial, ok = new(big.Int).SetString(words[0], 16)
			i.until, err = time.Parse(time.RFC3339, words[1])
			i.name = words[2]
			if !ok {
				err = errors.New("no serial number")
			}
		}
		if len(words) != 3 || err != nil {
			return nil, fmt.Errorf("read %q: a line is not SERIAL END NAME: %q", path, lines.Text())
		}
		if c.now.Before(i.until) {
			all = append(all, i)
		}
	}
	return all, nil
}

// record notes a certificate, before anybody can have it.
func (c clients) record(name string, cert *x509.Certificate) error {
	all, err := c.all()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, i := range append(all, issued{cert.SerialNumber, cert.NotAfter, name}) {
		fmt.Fprintf(&b, "%x %s %s\n", i.serial, i.until.UTC().Format(time.RFC3339), i.name)
	}
	return atomicfile.WriteOwned(filepath.Join(c.dir, issuedName), b.Bytes(), 0o644)
}

// revoke revokes every certificate of a client that has not ended: those that were made
// here, and the one that is in its file. It returns how many that are.
func (c clients) revoke(name string) (int, error) {
	list, err := c.revocations()
	if err != nil {
		return 0, err
	}
	all, err := c.all()
	if err != nil {
		return 0, err
	}
	var serials []*big.Int
	for _, i := range all {
		if i.name == name {
			serials = append(serials, i.serial)
		}
	}
	certs, err := pki.ReadFile(filepath.Join(c.dir, name+".pem"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err == nil && certs[0].CheckSignatureFrom(c.ca.cert) == nil {
		serials = append(serials, certs[0].SerialNumber)
	}
	if len(serials) == 0 {
		return 0, hint.Wrap(fmt.Errorf("no certificate of %q is known", name), "put it into %s", filepath.Join(c.dir, name+".pem"))
	}
	before := 0
	if list != nil {
		before = len(list.RevokedCertificateEntries)
	}
	text, err := pki.Revoke(list, serials, c.ca.cert, c.ca.key, c.now)
	if err != nil {
		return 0, err
	}
	next, err := pki.ParseRevocations(text)
	if err != nil {
		return 0, err
	}
	return len(next.RevokedCertificateEntries) - before, atomicfile.WriteOwned(filepath.Join(c.dir, crlName), text, 0o644)
}

// revokeClient is gencerts -revoke.
func revokeClient(c *guestcli.Call, dir, name string, now time.Time) error {
	ca := &pair{path: filepath.Join(dir, caName)}
	if err := ca.read(); err != nil {
		if errors.Is(err, errIncomplete) {
			return hint.Wrap(fmt.Errorf("revoke %q: %s.pem with its key is not in %q", name, caName, dir), "whoever made the client's certificate revokes it, and puts the list into %s", filepath.Join(dir, crlName))
		}
		return err
	}
	n, err := (clients{dir: dir, ca: ca, now: now}).revoke(name)
	if err != nil {
		return fmt.Errorf("revoke %q: %w", name, err)
	}
	return c.Report(struct {
		Revoked int `json:"revoked"`
	}{n}, "%s: revoked %d of %s's certificates; a front that runs refuses them within ten seconds", filepath.Join(dir, crlName), n, name)
}
