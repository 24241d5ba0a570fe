package quote

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const maxCert = 8 << 10

// Key purposes of the TCG, and a name in an extension.
var (
	oidEK  = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidAK  = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// HostURI is the URI name by which a host AK's certificate says which host the
// key is in; hostID is that of the claims. The certificate's extended key usage
// is 2.23.133.8.3.
func HostURI(hostID string) string { return "urn:ovsa:host:" + hostID }

// vmPrefix begins the URIs of VMURI (RFC 9562, 4).
const vmPrefix = "urn:uuid:"

// VMURI is the URI name by which a host AK's certificate limits the virtual
// machines that the host may vouch for; without any such name it may for all.
func VMURI(uuid string) string { return vmPrefix + strings.ToLower(uuid) }

// mayVouchFor says whether a host AK's certificate allows a virtual machine. A
// name that is like a limit is one: it never widens what is allowed.
func mayVouchFor(cert *x509.Certificate, uuid string) bool {
	limited := false
	for _, uri := range cert.URIs {
		name := strings.ToLower(uri.String())
		if name == VMURI(uuid) {
			return true
		}
		limited = limited || strings.HasPrefix(name, vmPrefix)
	}
	return !limited
}

// CheckEKChain returns the certificate of a host's EK when its chain, DER, that
// certificate first, leads to one of roots at now.
func CheckEKChain(ders [][]byte, roots []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	return (*Chains)(nil).checkEK(ders, roots, now)
}

func (c *Chains) checkEK(ders [][]byte, roots []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if len(ders) == 0 {
		return nil, errors.New("no EK certificate")
	}
	chain, err := parseChain(ders)
	if err != nil {
		return nil, err
	}
	if err := c.verify(chain[0], chain[1:], roots, oidEK, now); err != nil {
		return nil, fmt.Errorf("verify the EK certificate: %w", err)
	}
	return chain[0], nil
}

// HostCerts are the certificates by which a host is believed.
type HostCerts struct {
	ak *x509.Certificate
	ek []*x509.Certificate
}

// ParseHostCerts parses the certificate of a host's attestation key and the chain of
// its endorsement key, as a Record has them.
func ParseHostCerts(ak []byte, ekChain [][]byte) (HostCerts, error) {
	cert, err := parseCert(ak)
	if err != nil {
		return HostCerts{}, fmt.Errorf("parse the AK's certificate: %w", err)
	}
	chain, err := parseChain(ekChain)
	if err == nil && len(chain) == 0 {
		err = errors.New("no EK certificate")
	}
	return HostCerts{cert, chain}, err
}

// Check says whether the host is believed under a policy, of which the time, the
// roots and the memory count.
func (h HostCerts) Check(p Policy) error {
	if err := p.Chains.verify(h.ak, nil, p.AKIssuers, oidAK, p.Now); err != nil {
		return fmt.Errorf("%s: %w", StepEnrolled, err)
	}
	if err := p.Chains.verify(h.ek[0], h.ek[1:], p.Trust, oidEK, p.Now); err != nil {
		return fmt.Errorf("%s: %w", StepHostEK, err)
	}
	return nil
}

// CheckAKCert says whether verifiers will take a certificate, DER, for a host's
// attestation key, a TPMT_PUBLIC: it is of that key, for hosts' keys, names the
// host, and is valid at now. Its issuer is one of issuers, unless that is empty.
func CheckAKCert(der, ak []byte, hostID string, issuers []*x509.Certificate, now time.Time) error {
	p, err := parsePublic(ak)
	if err != nil {
		return fmt.Errorf("parse attestation key: %w", err)
	}
	cert, err := parseCert(der)
	if err != nil {
		return err
	}
	switch {
	case !sameKey(p.key, cert.PublicKey):
		return errors.New("the certificate is of another key")
	case !namesHost(cert, hostID):
		return fmt.Errorf("the certificate does not name %s", HostURI(hostID))
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("the certificate is valid from %s to %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	if len(issuers) == 0 {
		return checkPurpose(cert, oidAK)
	}
	_, err = verifyChain(cert, nil, issuers, oidAK, now)
	return err
}

func namesHost(cert *x509.Certificate, hostID string) bool {
	for _, uri := range cert.URIs {
		if uri.String() == HostURI(hostID) {
			return true
		}
	}
	return false
}

// parseCert parses one DER certificate and nothing after it. The critical
// subject alternative name of EK certificates, a directory name that Go does not
// handle, is accepted when it is well formed.
func parseCert(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCert {
		return nil, fmt.Errorf("a certificate of %d bytes, over the limit of %d", len(der), maxCert)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(cert.UnhandledCriticalExtensions, oidSAN.Equal) {
		return cert, nil
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oidSAN) {
			if err := checkSAN(ext.Value); err != nil {
				return nil, err
			}
		}
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, oidSAN.Equal)
	return cert, nil
}

// checkSAN accepts a sequence of general names with a directory name in it.
func checkSAN(value []byte) error {
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(value, &names)
	if err != nil || len(rest) > 0 {
		return errors.New("the subject alternative name is malformed")
	}
	for _, n := range names {
		if n.Class == asn1.ClassContextSpecific && n.Tag == 4 {
			return nil
		}
	}
	return errors.New("the subject alternative name has no directory name")
}

// verifyChain verifies leaf at now for purpose, through extra to roots. It uses
// no other roots, and looks nothing up. It returns one path, leaf first.
func verifyChain(leaf *x509.Certificate, extra, roots []*x509.Certificate, purpose asn1.ObjectIdentifier, now time.Time) ([]*x509.Certificate, error) {
	if now.IsZero() {
		return nil, errors.New("the policy gives no time to judge certificates at")
	}
	if len(roots) == 0 {
		return nil, errors.New("the policy trusts no root")
	}
	if err := checkPurpose(leaf, purpose); err != nil {
		return nil, err
	}
	opts := x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(extra), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	paths, err := leaf.Verify(opts)
	if err != nil {
		return nil, err
	}
	return paths[0], nil
}

// checkPurpose insists on an end's certificate for purpose.
func checkPurpose(leaf *x509.Certificate, purpose asn1.ObjectIdentifier) error {
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, purpose.Equal) {
		return fmt.Errorf("the certificate is not for purpose %s", purpose)
	}
	if leaf.IsCA {
		return errors.New("the certificate is an authority's")
	}
	// A certificate may leave its key's usage open (RFC 5280, 4.2.1.3). An EK
	// decrypts or agrees on keys, an AK signs.
	usage := x509.KeyUsageDigitalSignature
	if purpose.Equal(oidEK) {
		usage = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&usage == 0 {
		return fmt.Errorf("the certificate's key usage %#x does not go with purpose %s", int(leaf.KeyUsage), purpose)
	}
	return nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// parseChain parses an EK chain, leaf first.
func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) > 8 {
		return nil, fmt.Errorf("a chain of %d certificates", len(ders))
	}
	var certs []*x509.Certificate
	for i, der := range ders {
		c, err := parseCert(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d of the chain: %w", i, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// TrimCert returns the one DER value that data begins with: TPMs may keep
// certificates with padding after them.
func TrimCert(data []byte) ([]byte, error) {
	var value asn1.RawValue
	if _, err := asn1.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	if value.Tag != asn1.TagSequence || value.Class != asn1.ClassUniversal {
		return nil, errors.New("parse certificate: it is not one")
	}
	return value.FullBytes, nil
}
