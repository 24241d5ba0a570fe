package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// post asks a server as somebody does who has no licence.
func post(t *testing.T, s sold, from, path, body string) *http.Response {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	rsp, err := c.Post("https://"+s.Address+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	return rsp
}

// Each refusal makes a stranger wait longer; others do not notice.
func TestStrangersAreSlowedDown(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: server.Limits{PerIP: server.Rate{PerSecond: 1, Burst: 10}}})
	codes := map[int]int{}
	var last *http.Response
	for range 40 {
		last = post(t, s, "127.0.0.1", exchange.PathBegin, "{}")
		codes[last.StatusCode]++
	}
	if codes[http.StatusBadRequest] < 3 || codes[http.StatusBadRequest] > 6 || codes[http.StatusBadRequest]+codes[http.StatusTooManyRequests] != 40 {
		t.Errorf("answers %v", codes)
	}
	if last.Header.Get("Retry-After") == "" {
		t.Error("not told when to ask again")
	}
	if rsp := post(t, s, "127.0.0.2", exchange.PathBegin, "{}"); rsp.StatusCode == http.StatusTooManyRequests {
		t.Error("another address is slowed down, too")
	}
}

// A guest that proves itself too often is slowed down, once it has proven that the
// endorsement key is its own.
func TestGuestsAreSlowedDown(t *testing.T) {
	limits := generous
	limits.PerEK = server.Rate{PerSecond: 0.001, Burst: 2}
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: limits})
	other := s.StartGuest(t, s.Host, vmB)
	s.Tamper(changed(exchange.PathFinish, func(f *exchange.Finish) { flip(f.Secret) }))
	for range 3 {
		s.refused(t, s.guest, exchange.NotAllowed, "secret is wrong") // costs the key nothing
	}
	s.Tamper(nil)
	s.good(t, s.guest)
	s.good(t, s.guest)
	s.refused(t, s.guest, exchange.SlowDown, "over its limit")
	s.good(t, other)
}

func TestWhatIsNoRequest(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "GET / HTTP/1.1", "an unknown field": `{"licence":"x","surprise":1}`,
		"too much": `{"id":"` + strings.Repeat("a", exchange.MaxBegin) + `"}`,
		"deep":     strings.Repeat("[", 10000), "two": "{}{}",
	} {
		if rsp := post(t, s, "127.0.0.1", exchange.PathBegin, body); rsp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, rsp.Status)
		}
	}
	if rsp := post(t, s, "127.0.0.1", "/v1/other", "{}"); rsp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", rsp.Status)
	}
	rec := httptest.NewRecorder()
	s.Server.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, exchange.PathBegin, strings.NewReader("{}")))
	if rec.Code != http.StatusBadRequest {
		t.Errorf("without TLS: %d", rec.Code)
	}
}

// Who can read a guest's connection at the other end, even with the server's TLS
// key, cannot pass its proof on.
func TestProofCannotBePassedOn(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	forward := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 1}}
	t.Cleanup(forward.CloseIdleConnections)
	middle := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rsp, err := forward.Post("https://"+s.Address+r.URL.Path, "application/json", r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer rsp.Body.Close()
		w.WriteHeader(rsp.StatusCode)
		var b bytes.Buffer
		b.ReadFrom(rsp.Body)
		w.Write(b.Bytes())
	})
	honest := s.licence.Servers
	s.licence.Servers = []licensing.Server{honest[0]}
	s.licence.Servers[0].Address = s.Listen(t, middle, s.TLS)
	s.refused(t, s.guest, exchange.NotAllowed, "possession")

	s.licence.Servers[0].Address = s.Listen(t, middle, licensetest.NewParty(t, "not the server"))
	if _, err := s.acquire(t, s.guest); !errors.Is(err, client.ErrPin) {
		t.Errorf("another key than the pinned one: %v", err)
	}
}

// The servers of a licence are asked in turn, and the future pin is as good.
func TestNextServer(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	here := s.licence.Servers[0]
	dead := here
	dead.Address = licensetest.FreeAddress(t)
	future := here
	future.Pin, future.FuturePin = make(licensing.Pin, 32), here.Pin
	s.licence.Servers = []licensing.Server{dead, future}
	s.good(t, s.guest)
}

// What is trusted is asked for at each proof, and can be changed while the
// server runs.
func TestTrustChanges(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	for name, change := range map[string]func(*server.Credentials){
		"ISV":         func(c *server.Credentials) { c.ISVs = nobody{} },
		"customer":    func(c *server.Credentials) { c.Customers = nobody{} },
		"vendor":      func(c *server.Credentials) { c.Vendors = nil },
		"attestation": func(c *server.Credentials) { c.Attestation = nil },
	} {
		t.Run("without trust in the "+name, func(t *testing.T) {
			lease := s.good(t, s.guest)
			if err := lease.Renew(t.Context()); err != nil {
				t.Errorf("before: %v", err)
			}
			c := s.Credentials
			change(&c)
			if err := s.Server.Use(c); err != nil {
				t.Fatal(err)
			}
			s.refused(t, s.guest, exchange.NotAllowed, "")
			if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
				t.Errorf("the lease goes on: %v", err)
			}
			if err := s.Server.Use(s.Credentials); err != nil {
				t.Fatal(err)
			}
			if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
				t.Errorf("the lease that had ended: %v", err)
			}
			s.good(t, s.guest)
		})
	}
}

// Nobody saying whether a certificate was revoked ends no lease, and gives none.
func TestStatusThatNobodyKnows(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	lease := s.good(t, s.guest)
	c := s.Credentials
	c.ISVs = silent{}
	if err := s.Server.Use(c); err != nil {
		t.Fatal(err)
	}
	s.refused(t, s.guest, exchange.Unavailable, "licence's signer")
	var p *exchange.Problem
	if err := lease.Renew(t.Context()); !errors.As(err, &p) || p.Code != exchange.Unavailable {
		t.Errorf("renewal: %v", err)
	}
	if err := s.Server.Use(s.Credentials); err != nil {
		t.Fatal(err)
	}
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("once it is known: %v", err)
	}
}

// silent is a verifier whose OCSP responder is away.
type silent struct{}

func (silent) Verify(context.Context, []*x509.Certificate) ([]*x509.Certificate, error) {
	return nil, fmt.Errorf("verify certificate: %w", pki.ErrStatus)
}

// A lease of which nothing is remembered, as after a restart, is judged as well;
// and one that an older version gave takes another proof.
func TestRenewalAfterARestart(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	lease := s.good(t, s.guest)
	restart := func(c server.Credentials) {
		t.Helper()
		var err error
		if s.Server, err = server.New(s.Ledger, server.Options{Limits: generous}); err != nil {
			t.Fatal(err)
		}
		if err := s.Server.Use(c); err != nil {
			t.Fatal(err)
		}
	}
	restart(s.Credentials)
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	c := s.Credentials
	c.Vendors = nil
	restart(c)
	if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
		t.Errorf("after a restart without the maker's root: %v", err)
	}

	restart(s.Credentials)
	lease = s.good(t, s.guest)
	db, err := sql.Open("sqlite3", s.DB)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE hosts SET certs = NULL`); err != nil {
		t.Fatal(err)
	}
	restart(s.Credentials)
	if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
		t.Errorf("a host of which nothing is known: %v", err)
	}
}

// A licence that somebody else signed is of no use, whoever stored it.
func TestLicenceOfAStranger(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	s.licence = s.Offer(t, licensing.Terms{Type: licensing.Sale}, s.TCB(t, s.guest))
	s.Store(t, s.licence, licensetest.NewParty(t, "stranger"))
	s.refused(t, s.guest, exchange.NotAllowed, "licence's signer")
}

// Keep renews a lease in time, until the guest gives it back.
func TestKeep(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 3 * time.Second})
	lease := s.good(t, s.guest)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := lease.Keep(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not kept: %v", err)
	}
	if err := lease.End(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := lease.Keep(ctx); !errors.Is(err, client.ErrOver) {
		t.Errorf("kept after its end: %v", err)
	}
}

// A lease ends with its time when its server is gone: what a guest was once given
// does not stay good because nobody can be asked.
func TestLeaseEndsWithoutItsServer(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 2 * time.Second})
	var gone atomic.Bool
	s.licence.Servers = []licensing.Server{s.licence.Servers[0]}
	s.licence.Servers[0].Address = s.Listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		s.ServeHTTP(w, r)
	}), s.TLS)
	lease := s.good(t, s.guest)
	gone.Store(true)
	ends := lease.Document().Expires
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := lease.Keep(ctx); !errors.Is(err, client.ErrOver) {
		t.Errorf("kept without its server: %v", err)
	}
	if late := time.Since(ends); late < 0 || late > 10*time.Second {
		t.Errorf("given up %s after its end", late)
	}
}

// Who has stolen the server's TLS key, and no more, cannot make a lease last.
func TestThiefOfTheTLSKeyProlongsNothing(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	var thief atomic.Bool
	s.licence.Servers = []licensing.Server{s.licence.Servers[0]}
	s.licence.Servers[0].Address = s.Listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !thief.Load() {
			s.ServeHTTP(w, r)
			return
		}
		exporter, err := r.TLS.ExportKeyingMaterial(exchange.ExporterLabel, nil, exchange.ExporterSize)
		if err != nil {
			t.Error(err)
		}
		expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		var asked exchange.Renew
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(exchange.Renewed{Expires: expires, MAC: exchange.RenewedMAC(make([]byte, 32), asked.Lease, exporter, expires)})
	}), s.TLS)
	lease := s.good(t, s.guest)
	if err := lease.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	thief.Store(true)
	before := lease.Document()
	if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrLease) || lease.Document() != before {
		t.Errorf("renewed by a thief: %v, until %s", err, lease.Document().Expires)
	}
}

// What else is asked on the server's port counts, too.
func TestOtherRequestsCount(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: server.Limits{PerIP: server.Rate{PerSecond: 0.001, Burst: 10}}})
	r := httptest.NewRequest(http.MethodPost, "/v1/hosts/begin", nil)
	for _, refused := range []bool{false, true, true} {
		done, err := admit(s, r)
		if err != nil {
			t.Fatal(err)
		}
		done(refused)
	}
	let := 0
	for range 10 {
		if done, err := admit(s, r); err == nil {
			done(false)
			let++
		}
	}
	if want := 10 - 3 - 2; let != want { // a refusal costs a tenth of the burst more
		t.Errorf("%d let in, want %d", let, want)
	}
}

// nobody is whom to trust when one trusts nobody.
type nobody struct{}

func (nobody) Verify(context.Context, []*x509.Certificate) ([]*x509.Certificate, error) {
	return nil, pki.ErrUntrusted
}
