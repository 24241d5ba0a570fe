package vtpm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// Object identifiers of the TCG EK Credential Profile 2.5 (3.2) and the TCG
// Platform Certificate Profile.
var (
	oidSAN          = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEKCert       = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidPlatformCert = asn1.ObjectIdentifier{2, 23, 133, 8, 2}

	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}

	oidPlatformManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 4}
	oidPlatformModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 5}
	oidPlatformVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 6}
)

// swtpmManufacturer is the TPM vendor id that swtpm reports: "IBM" with a zero
// byte, as TCG's vendor id registry has it and as swtpm_localca writes it.
const swtpmManufacturer = "id:00001014"

// issue certifies a vTPM's key. kind is oidEKCert or oidPlatformCert.
func (ca *authority) issue(kind asn1.ObjectIdentifier, name string, key crypto.PublicKey, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	attributes := []pkix.AttributeTypeAndValue{
		{Type: oidTPMManufacturer, Value: swtpmManufacturer},
		{Type: oidTPMModel, Value: "swtpm"},
		{Type: oidTPMVersion, Value: "id:00010002"},
	}
	if kind.Equal(oidPlatformCert) {
		attributes = []pkix.AttributeTypeAndValue{
			{Type: oidPlatformManufacturer, Value: "QEMU"},
			{Type: oidPlatformModel, Value: "ovsactl guest"},
			{Type: oidPlatformVersion, Value: "1"},
		}
	}
	san, err := directoryName(attributes)
	if err != nil {
		return nil, err
	}
	// An EK decrypts: by RSA, or by agreeing on a key.
	usage := x509.KeyUsageKeyAgreement
	if _, isRSA := key.(*rsa.PublicKey); isRSA {
		usage = x509.KeyUsageKeyEncipherment
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Minute).UTC(),
		NotAfter:              forever,
		KeyUsage:              usage,
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{kind},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidSAN, Value: san}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return der, nil
}

// directoryName encodes a SubjectAltName (RFC 5280, 4.2.1.6) of one
// directoryName, each attribute a relative name of its own.
func directoryName(attributes []pkix.AttributeTypeAndValue) ([]byte, error) {
	var names pkix.RDNSequence
	for _, a := range attributes {
		names = append(names, pkix.RelativeDistinguishedNameSET{a})
	}
	rdn, err := asn1.Marshal(names)
	if err != nil {
		return nil, err
	}
	const directoryNameTag = 4
	general, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: directoryNameTag, IsCompound: true, Bytes: rdn})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: general})
}

// issuer names who issued a certificate, for people.
func issuer(der []byte) string {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "a certificate that cannot be read"
	}
	return cert.Issuer.String()
}
