package enrol

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// How long certificates are valid: a year, from a little earlier, for hosts whose
// clocks are behind, and no longer than the authority's.
const (
	validYears = 1
	backdate   = 5 * time.Minute
)

// issue certifies an attestation key, and makes sure that verifiers will agree.
func (s *Service) issue(ak []byte, hostID string, vms []string, now time.Time) (*x509.Certificate, error) {
	ca := s.opts.CA
	if now.Before(ca.NotBefore) || now.After(ca.NotAfter) {
		return nil, errors.New("issue certificate: the authority's is not valid now")
	}
	key, err := quote.AKPublicKey(ak)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), SignatureAlgorithm: x509.ECDSAWithSHA384,
		NotBefore: now.UTC().Add(-backdate), NotAfter: now.UTC().AddDate(validYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}, // tcg-kp-AIKCertificate
	}
	if template.NotBefore.Before(ca.NotBefore) {
		template.NotBefore = ca.NotBefore
	}
	if template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	names := []string{quote.HostURI(hostID)}
	for _, vm := range vms {
		names = append(names, quote.VMURI(vm))
	}
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("issue certificate: %w", err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key, s.opts.Key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if err := quote.CheckAKCert(der, ak, hostID, []*x509.Certificate{ca}, now); err != nil {
		return nil, fmt.Errorf("issue certificate: verifiers would refuse it: %w", err)
	}
	return x509.ParseCertificate(der)
}
