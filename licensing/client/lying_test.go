package client

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// TestLeasesOfLyingServers: a lease is taken from the server at the other end of the
// connection, for this guest and this licence, and while it lasts.
func TestLeasesOfLyingServers(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	subject, err := pki.ParseSubject("/CN=server")
	if err != nil {
		t.Fatal(err)
	}
	party := func() (*ecdsa.PrivateKey, *x509.Certificate) {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.SelfSigned(key, subject, x509.KeyUsageDigitalSignature, now)
		if err != nil {
			t.Fatal(err)
		}
		return key, cert
	}
	key, cert := party()
	otherKey, otherCert := party()
	good := licensing.Lease{
		ID: strings.Repeat("0a", 16), LicenceGUID: licensing.NewGUID(), ModelGUID: licensing.NewGUID(), Guest: "000b01",
		Issued: now, Expires: now.Add(10 * time.Minute), RenewUntil: now.Add(time.Hour),
	}
	l := &Lease{
		licence: licensing.Licence{LicenceGUID: good.LicenceGUID, ModelGUID: good.ModelGUID}, guest: good.Guest,
		options: Options{Now: func() time.Time { return now }}, session: &session{pin: licensing.PinOf(cert)},
	}
	sign := func(d licensing.Lease, key *ecdsa.PrivateKey, cert *x509.Certificate) []byte {
		file, err := licensing.Sign(d, key, []*x509.Certificate{cert})
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	if d, err := l.verify(sign(good, key, cert)); err != nil || d != good {
		t.Fatalf("%+v, %v", d, err)
	}
	for name, change := range map[string]func(*licensing.Lease){
		"another licence":  func(d *licensing.Lease) { d.LicenceGUID = licensing.NewGUID() },
		"another model":    func(d *licensing.Lease) { d.ModelGUID = licensing.NewGUID() },
		"another guest":    func(d *licensing.Lease) { d.Guest = "000b02" },
		"over":             func(d *licensing.Lease) { d.Issued, d.Expires = now.Add(-time.Hour), now.Add(-time.Second) },
		"over this moment": func(d *licensing.Lease) { d.Issued, d.Expires = now.Add(-time.Hour), now },
	} {
		d := good
		change(&d)
		if _, err := l.verify(sign(d, key, cert)); !errors.Is(err, ErrLease) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.verify(sign(good, otherKey, otherCert)); !errors.Is(err, ErrLease) {
		t.Errorf("another server's: %v", err)
	}
	if _, err := l.verify([]byte("{}")); !errors.Is(err, ErrLease) {
		t.Errorf("none: %v", err)
	}
}

// TestRenewalsOfLyingServers: a new end is by whom the lease is, of this connection,
// after now and not after the end of all renewals.
func TestRenewalsOfLyingServers(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	key, exporter := []byte(strings.Repeat("k", 32)), []byte(strings.Repeat("e", 32))
	for name, tt := range map[string]struct {
		expires time.Time
		mac     func(lease string, expires time.Time) []byte
		good    bool
	}{
		"good":                  {now.Add(10 * time.Minute), nil, true},
		"until the last moment": {now.Add(time.Hour), nil, true},
		"longer than that":      {now.Add(time.Hour + time.Second), nil, false},
		"over":                  {now.Add(-time.Second), nil, false},
		"over this moment":      {now, nil, false},
		"no MAC":                {now.Add(time.Minute), func(string, time.Time) []byte { return nil }, false},
		"by another key":        {now.Add(time.Minute), func(l string, e time.Time) []byte { return exchange.RenewedMAC(exporter, l, exporter, e) }, false},
		"of another connection": {now.Add(time.Minute), func(l string, e time.Time) []byte { return exchange.RenewedMAC(key, l, key, e) }, false},
		"of another lease":      {now.Add(time.Minute), func(_ string, e time.Time) []byte { return exchange.RenewedMAC(key, "other", exporter, e) }, false},
		"of another end":        {now.Add(time.Minute), func(l string, e time.Time) []byte { return exchange.RenewedMAC(key, l, exporter, e.Add(time.Second)) }, false},
	} {
		secret, err := licensing.TakeKey(append([]byte{}, key...))
		if err != nil {
			t.Fatal(err)
		}
		l := &Lease{
			renewal: secret, session: &session{exporter: exporter}, options: Options{Now: func() time.Time { return now }},
			document: licensing.Lease{ID: "lease", Expires: now.Add(5 * time.Minute), RenewUntil: now.Add(time.Hour)},
		}
		before := l.document
		mac := tt.mac
		if mac == nil {
			mac = func(lease string, e time.Time) []byte { return exchange.RenewedMAC(key, lease, exporter, e) }
		}
		err = l.prolong(exchange.Renewed{Expires: tt.expires, MAC: mac("lease", tt.expires)})
		switch {
		case tt.good && (err != nil || !l.document.Expires.Equal(tt.expires)):
			t.Errorf("%s: %v, until %s", name, err, l.document.Expires)
		case !tt.good && (!errors.Is(err, ErrLease) || l.document != before):
			t.Errorf("%s: %v, until %s", name, err, l.document.Expires)
		}
	}
}

// TestHalvesOfLyingServers: what is sealed is a half and a renewal key, and nothing of
// it stays where it was.
func TestHalvesOfLyingServers(t *testing.T) {
	for _, size := range []int{0, 1, licensing.KeySize, licensing.KeySize + exchange.RenewalSize - 1, licensing.KeySize + exchange.RenewalSize + 1} {
		if _, _, err := takeHalf(make([]byte, size)); !errors.Is(err, ErrLease) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	plain := []byte(strings.Repeat("h", licensing.KeySize) + strings.Repeat("r", exchange.RenewalSize))
	half, renewal, err := takeHalf(plain)
	if err != nil || string(half.Bytes()) != strings.Repeat("h", licensing.KeySize) || string(renewal.Bytes()) != strings.Repeat("r", exchange.RenewalSize) {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(plain, make([]byte, len(plain))) {
		t.Error("the halves are still there")
	}
}

// TestAnswersOfLyingServers: no more is read of an answer than one may have.
func TestAnswersOfLyingServers(t *testing.T) {
	answer := strings.Repeat("x", exchange.MaxAnswer+1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
	defer srv.Close()
	s := &session{server: licensing.Server{Address: srv.Listener.Addr().String()}, http: srv.Client()}
	for _, tt := range []struct {
		length int
		want   string
	}{{exchange.MaxAnswer + 1, "an answer of more than"}, {exchange.MaxAnswer, "not a message"}} {
		length, want := tt.length, tt.want
		answer = answer[:length]
		if err := s.do(t.Context(), exchange.PathEnd, struct{}{}, &exchange.Nothing{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", length, err, want)
		}
	}
}
