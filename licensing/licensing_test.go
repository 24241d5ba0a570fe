package licensing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// now is when these tests take place.
var now = time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)

// party is a key with a certificate.
type party struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (p party) chain() []*x509.Certificate { return []*x509.Certificate{p.cert} }

func newParty(t testing.TB, name string) party {
	return newPartyOn(t, elliptic.P384(), name, now, now.AddDate(0, CertificateMonths, 0))
}

func newPartyOn(t testing.TB, curve elliptic.Curve, name string, from, to time.Time) party {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certifyBetween(t, key, name, from, to)
}

func certify(t testing.TB, key *ecdsa.PrivateKey, name string) party {
	return certifyBetween(t, key, name, now, now.AddDate(0, CertificateMonths, 0))
}

func certifyBetween(t testing.TB, key *ecdsa.PrivateKey, name string, from, to time.Time) party {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return party{key, cert}
}

// sample is everything that takes part in one licence.
type sample struct {
	isv, customer, server party
	key                   Key
	master                MasterLicence
	config                LicenceConfig
	tcb                   TCB
	licence               Licence
}

const (
	licenceGUID = GUID("0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01")
	modelGUID   = GUID("7c1b2a90-1111-4222-8333-444455556666")
)

func newSample(t testing.TB, terms Terms) sample {
	t.Helper()
	s := sample{isv: newParty(t, "isv"), customer: newParty(t, "customer"), server: newParty(t, "server"), key: NewKey()}
	var err error
	s.master, err = NewMasterLicence(now, licenceGUID, modelGUID, make([]byte, 32), s.key, &s.isv.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.config = LicenceConfig{Name: "30 days", Version: "1.0", Terms: terms, Servers: []Server{serverAt("192.168.122.10:4452", s.server)}}
	s.tcb = TCB{Name: "runtime", Version: "1.0", Guest: registers(t, 0x0f), Host: registers(t, 0x01)}
	s.licence, err = NewLicence(now, s.offer(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s sample) offer() Offer {
	return Offer{Master: s.master, Config: s.config, TCBs: []TCB{s.tcb}, Customer: s.customer.cert}
}

func serverAt(address string, p party) Server {
	return Server{Address: address, Pin: PinOf(p.cert), ReleaseKey: p.cert.RawSubjectPublicKeyInfo}
}

// bank is a SHA-256 bank in which no two registers are the same.
func bank() []quote.PCR {
	var pcrs []quote.PCR
	for i := range 24 {
		sum := sha256.Sum256([]byte{byte(i)})
		pcrs = append(pcrs, quote.PCR{Index: i, Digest: sum[:]})
	}
	return pcrs
}

func registers(t testing.TB, m Mask) Registers {
	t.Helper()
	r, err := m.Select(bank())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustSign[D Document](t testing.TB, d D, p party) []byte {
	t.Helper()
	file, err := Sign(d, p.key, p.chain())
	if err != nil {
		t.Fatal(err)
	}
	return file
}
