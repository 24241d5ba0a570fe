package server_test

import (
	"crypto/tls"
	"database/sql"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// A challenge is answered on the connection that it was given on. Whoever carries an
// answer to another one has not proven to be its guest.
func TestAnswerOnAnotherConnection(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	var other atomic.Pointer[tls.ConnectionState]
	var swap atomic.Bool
	s.licence.Servers[0].Address = s.Listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/other":
			other.Store(r.TLS)
			return
		case r.URL.Path == exchange.PathFinish && swap.Load():
			r.TLS = other.Load()
		}
		s.ServeHTTP(w, r)
	}), s.TLS)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	rsp, err := c.Get("https://" + s.licence.Servers[0].Address + "/other")
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	s.good(t, s.guest)
	swap.Store(true)
	s.refused(t, s.guest, exchange.ChallengeOver, "another connection")
}

// A licence has its share of proofs, whoever of its guests asks, and takes nothing
// from another's.
func TestProofsOfALicence(t *testing.T) {
	limits := generous
	limits.PerLicence = server.Rate{PerSecond: 0.001, Burst: 3}
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: limits})
	other := s.StartGuest(t, s.Host, vmB)
	s.good(t, s.guest)
	s.good(t, other)
	s.good(t, s.guest)
	for _, g := range []licensetest.Guest{s.guest, other} {
		s.refused(t, g, exchange.SlowDown, "")
	}
	s.licence = s.Sell(t, licensing.Terms{Type: licensing.Sale}, s.TCB(t, s.guest))
	s.good(t, s.guest)
}

// A database in which somebody has put one signed licence into another's place gives
// nothing: neither for another sale, nor another model, nor another customer.
func TestLicencesExchangedInTheDatabase(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, server.Options{})
	db, err := sql.Open("sqlite3", s.DB)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sign := func(l licensing.Licence) []byte {
		t.Helper()
		document, err := licensing.Sign(l, s.ISV.Key, s.ISV.Chain())
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	put := func(document []byte) {
		t.Helper()
		if _, err := db.Exec(`UPDATE licences SET document = $1 WHERE guid = $2`, document, string(s.licence.LicenceGUID)); err != nil {
			t.Fatal(err)
		}
	}
	// Each has halves of its own, and what it says beside is this licence's.
	offer := func(change func(*licensing.Offer)) licensing.Licence {
		t.Helper()
		l := s.OfferOf(t, s.licence, change)
		if change != nil {
			l.LicenceGUID = s.licence.LicenceGUID
		}
		return l
	}
	stranger := licensetest.NewParty(t, "another customer")
	for name, document := range map[string][]byte{
		"another sale":     sign(offer(nil)),
		"another model":    sign(offer(func(o *licensing.Offer) { o.Master.ModelGUID = licensing.NewGUID() })),
		"another customer": sign(offer(func(o *licensing.Offer) { o.Customer = stranger.Certificate })),
	} {
		t.Run(name, func(t *testing.T) {
			put(document)
			s.refused(t, s.guest, exchange.Unavailable, "the stored licence is another one")
		})
	}
	put(sign(s.licence))
	s.good(t, s.guest)
}

// Time that is over is over for a lease that is asked about at that very moment.
func TestProofEvery(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 10 * time.Minute, ProofEvery: 25 * time.Minute, Now: now})
	lease := s.good(t, s.guest)
	if until := lease.Document().RenewUntil.Sub(lease.Document().Issued); until != 25*time.Minute {
		t.Errorf("it may be renewed for %s", until)
	}
	for _, at := range []time.Duration{9 * time.Minute, 18 * time.Minute} {
		later.Store(int64(at))
		if err := lease.Renew(t.Context()); err != nil {
			t.Fatalf("after %s: %v", at, err)
		}
	}
	if end := lease.Document().Expires; end.After(lease.Document().RenewUntil) {
		t.Errorf("it lasts until %s, after %s", end, lease.Document().RenewUntil)
	}
	later.Store(int64(25*time.Minute + time.Second))
	if err := lease.Renew(t.Context()); err == nil {
		t.Error("renewed for longer than a proof lasts")
	}
}
