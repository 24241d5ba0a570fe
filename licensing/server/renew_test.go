package server_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// TestDishonestRenewals: a lease is renewed and ended by whom it was given to, on
// the connection that he is at the other end of, and by nobody else.
func TestDishonestRenewals(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, server.Options{})
	other := s.StartGuest(t, s.Host, vmB)
	for _, path := range []string{exchange.PathRenew, exchange.PathEnd} {
		for name, change := range map[string]func(*exchange.Renew){
			"another MAC":       func(r *exchange.Renew) { flip(r.MAC) },
			"no MAC":            func(r *exchange.Renew) { r.MAC = nil },
			"zeros for a MAC":   func(r *exchange.Renew) { clear(r.MAC) },
			"another guest":     func(r *exchange.Renew) { r.Guest = "000b" + strings.Repeat("00", 32) },
			"another lease":     func(r *exchange.Renew) { r.Lease = strings.Repeat("0a", 16) },
			"a lease of no one": func(r *exchange.Renew) { r.Lease = "" },
		} {
			lease := s.good(t, s.guest)
			before := lease.Document()
			s.Tamper(changed(path, change))
			var err error
			if path == exchange.PathRenew {
				err = lease.Renew(t.Context())
			} else {
				lease.End(t.Context()) // one that is over for the server is no error
			}
			if path == exchange.PathRenew && err == nil || lease.Document() != before {
				t.Errorf("%s: renewed: %v", name, err)
			}
			s.Tamper(nil)
			s.log.Take()
			if _, err := s.acquire(t, other); err == nil {
				t.Errorf("%s on %s: the guest's place is free", name, path)
			}
			if err := lease.Renew(t.Context()); err != nil {
				t.Errorf("%s on %s: and then not by the guest itself: %v", name, path, err)
			}
		}
	}
}

// TestRenewalIsOfItsConnection: what was sent on one connection is of no use on
// another.
func TestRenewalIsOfItsConnection(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	lease := s.good(t, s.guest)
	said := map[string]string{}
	s.Tamper(func(path string, message []byte) []byte {
		said[path] = string(message)
		return message
	})
	if err := lease.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Tamper(nil)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	for _, path := range []string{exchange.PathRenew, exchange.PathEnd} {
		rsp, err := c.Post("https://"+s.Address+path, "application/json", strings.NewReader(said[exchange.PathRenew]))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		if rsp.StatusCode == http.StatusOK || !strings.Contains(string(answer), string(exchange.LeaseOver)) {
			t.Errorf("%s: %s %s", path, rsp.Status, answer)
		}
	}
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("and the lease is over: %v", err)
	}
}

// TestProofIsAskedForAgain: a lease is not renewed for ever.
func TestProofIsAskedForAgain(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 2 * time.Second, ProofEvery: 3 * time.Second})
	lease := s.good(t, s.guest)
	until := lease.Document().RenewUntil
	var err error
	for err == nil && time.Now().Before(until.Add(5*time.Second)) {
		if err = lease.Renew(t.Context()); err == nil && lease.Document().Expires.After(until) {
			t.Fatalf("it shall last until %s, and be renewed until %s", lease.Document().Expires, until)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if !errors.Is(err, client.ErrOver) || time.Now().Before(until.Add(-time.Second)) {
		t.Errorf("at %s, of %s: %v", time.Now(), until, err)
	}
	s.good(t, s.guest)
}
