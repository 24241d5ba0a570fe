// Package licensetest gives tests everything that takes part in a licence: an ISV,
// a customer, an enrolled host with guests on real software TPMs, and a licence
// server on the loopback device.
package licensetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// Party is a key with a certificate that it signed itself.
type Party struct {
	Key         *ecdsa.PrivateKey
	Certificate *x509.Certificate
}

// Chain is the party's certificate, as documents are signed with it.
func (p Party) Chain() []*x509.Certificate { return []*x509.Certificate{p.Certificate} }

// NewParty makes a P-384 key and its certificate.
func NewParty(t testing.TB, name string) Party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := pki.ParseSubject("/CN=" + name)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.SelfSigned(key, subject, x509.KeyUsageDigitalSignature, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return Party{key, cert}
}

// World is all of it. What is exported may be changed before it is used.
type World struct {
	ISV, Primary, Secondary Party
	TLS, Release            Party
	Key                     licensing.Key // the model's

	Host        *vtpmtest.Host
	Attestation Party // certifies hosts
	Ledger      *ledger.Ledger
	DB          string // the ledger's file, "" if it is elsewhere
	Server      *server.Server
	Address     string
	Credentials server.Credentials

	mu     sync.Mutex
	tamper func(path string, message []byte) []byte
}

// Tamper has change make each message another before the server sees it, as a
// dishonest guest would. nil ends that.
func (w *World) Tamper(change func(path string, message []byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tamper = change
}

// ServeHTTP is the server, behind Tamper.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	change := w.tamper
	w.mu.Unlock()
	if change != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		body = change(r.URL.Path, body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	w.Server.ServeHTTP(rw, r)
}

// Start makes a world in which the host is enrolled and nothing was sold yet. Its
// ledger is a SQLite file.
func Start(t testing.TB, o server.Options) *World {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ovsa.db")
	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := StartOn(t, o, l)
	w.DB = path
	return w
}

// StartOn is Start with another ledger.
func StartOn(t testing.TB, o server.Options, l *ledger.Ledger) *World {
	t.Helper()
	w := &World{
		ISV: NewParty(t, "isv"), Primary: NewParty(t, "customer"), Secondary: NewParty(t, "customer, possession"),
		TLS: NewParty(t, "licence server"), Release: NewParty(t, "key release"), Key: licensing.NewKey(),
		Host: vtpmtest.New(t), Attestation: newAuthority(t), Ledger: l,
	}
	w.Credentials = server.Credentials{
		Certificate: w.TLS.Certificate, Signer: w.TLS.Key, Release: []*ecdsa.PrivateKey{w.Release.Key},
		ISVs:      pki.Verifier{Store: w.store(t, w.ISV.Certificate), Now: o.Now},
		Customers: pki.Verifier{Store: w.store(t, w.Primary.Certificate, w.Secondary.Certificate), Now: o.Now},
		Vendors:   w.vendors(t), Attestation: []*x509.Certificate{w.Attestation.Certificate},
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if w.Server, err = server.New(w.Ledger, o); err != nil {
		t.Fatal(err)
	}
	if err := w.Server.Use(w.Credentials); err != nil {
		t.Fatal(err)
	}
	w.Address = w.Listen(t, w, w.TLS)
	w.Enrol(t, w.Host, nil)
	return w
}

// Listen serves a handler under a certificate and returns where.
func (w *World) Listen(t testing.TB, h http.Handler, p Party) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{p.Certificate.Raw}, PrivateKey: p.Key}},
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "https://")
}

func (w *World) store(t testing.TB, certs ...*x509.Certificate) pki.Store {
	t.Helper()
	store := pki.NewStore(t.TempDir())
	for _, c := range certs {
		if _, err := store.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func (w *World) vendors(t testing.TB) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Host.DataDir, "vtpm", "trust", "vendor.pem"))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParsePEM(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// Enrol certifies a host's attestation key; change makes the certificate another.
func (w *World) Enrol(t testing.TB, host *vtpmtest.Host, change func(*x509.Certificate)) vtpm.Enrolment {
	t.Helper()
	h := host.Open(t)
	e, err := h.Enrolment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(quote.HostURI(e.HostID))
	if err != nil {
		t.Fatal(err)
	}
	key, err := quote.AKPublicKey(e.AK)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		URIs: []*url.URL{uri}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, w.Attestation.Certificate, key, w.Attestation.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.InstallAKCert(t.Context(), cert); err != nil {
		t.Fatal(err)
	}
	return e
}

func newAuthority(t testing.TB) Party {
	t.Helper()
	p := NewParty(t, "attestation service")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attestation service"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.Key.Public(), p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if p.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

// Guest is a guest's running TPM.
type Guest struct {
	*guest.TPM
	ID   vtpm.Identity
	Host guest.Port // to its host's attestation service
	Path string
	Stop func()
}

// StartGuest makes a VM's vTPM where there is none, binds it and starts it.
func (w *World) StartGuest(t testing.TB, host *vtpmtest.Host, uuid string) Guest {
	t.Helper()
	g := Guest{ID: vtpm.Identity{UUID: uuid, Name: "guest"}}
	h := host.Open(t)
	if err := h.Manufacture(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Bind(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	g.Host = host.Attest(t, uuid)
	g.Boot(t, host)
	return g
}

// Boot starts the guest's TPM.
func (g *Guest) Boot(t testing.TB, host *vtpmtest.Host) {
	t.Helper()
	g.Path, g.Stop = host.StartGuest(t, g.ID.UUID)
	var err error
	if g.TPM, err = guest.Open(t.Context(), g.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.TPM.Close() })
}

// TCB is the present state of a guest and its host, as they quote it.
func (w *World) TCB(t testing.TB, g Guest) licensing.TCB {
	t.Helper()
	evidence, err := guest.Make(t.Context(), g.TPM, make([]byte, quote.MinNonce), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	record, err := quote.ParseRecord(evidence.Record)
	if err != nil {
		t.Fatal(err)
	}
	tcb := licensing.TCB{Name: "runtime", Version: "1.0"}
	if tcb.Guest, err = licensing.Mask(0x0000df).Select(evidence.PCRs); err != nil {
		t.Fatal(err)
	}
	if tcb.Host, err = licensing.Mask(0x00000f).Select(record.PCRs); err != nil {
		t.Fatal(err)
	}
	return tcb
}

// Sell sells a licence for the model, to be used in the given states, and stores
// it on the server.
func (w *World) Sell(t testing.TB, terms licensing.Terms, tcbs ...licensing.TCB) licensing.Licence {
	t.Helper()
	l := w.Offer(t, terms, tcbs...)
	w.Store(t, l, w.ISV)
	return l
}

// Offer makes a licence.
func (w *World) Offer(t testing.TB, terms licensing.Terms, tcbs ...licensing.TCB) licensing.Licence {
	t.Helper()
	now := time.Now()
	master, err := licensing.NewMasterLicence(now, licensing.NewGUID(), licensing.NewGUID(), make([]byte, 32), w.Key, &w.ISV.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	config := licensing.LicenceConfig{Name: "licence", Version: "1.0", Terms: terms, Servers: []licensing.Server{{
		Address: w.Address, Pin: licensing.PinOf(w.TLS.Certificate), ReleaseKey: w.Release.Certificate.RawSubjectPublicKeyInfo,
	}}}
	l, err := licensing.NewLicence(now, licensing.Offer{Master: master, Config: config, TCBs: tcbs, Customer: w.Primary.Certificate}, w.Key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// OfferOf makes another licence with the terms, servers, states and product of one,
// and whatever change makes of that; nil for nothing.
func (w *World) OfferOf(t testing.TB, l licensing.Licence, change func(*licensing.Offer)) licensing.Licence {
	t.Helper()
	now := time.Now()
	master, err := licensing.NewMasterLicence(now, l.ProductGUID, l.ModelGUID, l.ModelDigest, w.Key, &w.ISV.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	offer := licensing.Offer{
		Master: master, TCBs: l.TCBs, Customer: w.Primary.Certificate,
		Config: licensing.LicenceConfig{Name: l.Name, Version: l.Version, Terms: l.Terms, Servers: l.Servers},
	}
	if change != nil {
		change(&offer)
	}
	other, err := licensing.NewLicence(now, offer, w.Key)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// Store puts a licence, signed by a party, into the server's ledger.
func (w *World) Store(t testing.TB, l licensing.Licence, by Party) {
	t.Helper()
	document, err := licensing.Sign(l, by.Key, []*x509.Certificate{by.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ledger.Store(t.Context(), ledger.Licence{
		GUID: string(l.LicenceGUID), Model: string(l.ModelGUID), Type: ledger.Type(l.Terms.Type),
		Instances: l.Terms.Instances, NotAfter: l.NotAfter, Document: document,
		Primary: w.Primary.Certificate.Raw, Secondary: w.Secondary.Certificate.Raw,
	}, time.Now(), func(ledger.Licence) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// Customer is the customer as a guest has it.
func (w *World) Customer() client.Customer {
	return client.Customer{Primary: w.Primary.Key, Secondary: w.Secondary.Key, Certificate: w.Secondary.Certificate}
}

// FreeAddress is a loopback address on which nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
