package server_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// Requests that never arrive take nobody's place: more of them than there are
// slots, from as few addresses as one likes, and a guest renews and proves itself.
func TestSlowBodiesKeepNobodyWaiting(t *testing.T) {
	limits := generous
	limits.InFlight = 4
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: limits})
	lease := s.good(t, s.guest)
	for i := range 16 {
		conn, err := tls.Dial("tcp", s.Address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		path := []string{exchange.PathBegin, exchange.PathRenew}[i%2]
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path)
	}
	time.Sleep(200 * time.Millisecond) // all of them are being read
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("a renewal: %v", err)
	}
	s.good(t, s.guest)
}

// However many ask: one client has a quarter of the slots, all that are no renewals
// have three quarters, and so a guest renews.
func TestSlotsAreShared(t *testing.T) {
	limits := generous
	limits.InFlight = 8
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: limits})
	lease := s.good(t, s.guest)
	var leave []func(bool)
	from := func(address string) error {
		r := httptest.NewRequest(http.MethodPost, "/v1/hosts/begin", nil)
		r.RemoteAddr = address
		done, err := admit(s, r)
		if err == nil {
			leave = append(leave, done)
		}
		return err
	}
	for i, want := range []bool{true, true, false, false} {
		if err := from(fmt.Sprintf("[2001:db8:0:1::%d]:1", i+1)); (err == nil) != want {
			t.Errorf("request %d of one client: %v", i+1, err)
		}
	}
	for i, want := range []bool{true, true, true, true, false} {
		if err := from(fmt.Sprintf("192.0.2.%d:1", i+1)); (err == nil) != want {
			t.Errorf("client %d: %v", i+1, err)
		}
	}
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("a renewal: %v", err)
	}
	if _, err := s.acquire(t, s.guest); err == nil {
		t.Error("a proof is let in, too")
	}
	for _, done := range leave {
		done(false)
	}
	s.good(t, s.guest)
}

// A host of IPv6 has 18 quintillion addresses, a site 65,536 times as many: they
// are one client, and one site.
func TestManyAddressesOfOneClient(t *testing.T) {
	for name, tt := range map[string]struct {
		address func(i int) string
		let     int // of 400, at most
	}{
		"one address":    {func(int) string { return "[2001:db8::1]:1" }, 10},
		"a network":      {func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i+1) }, 10},
		"a site":         {func(i int) string { return fmt.Sprintf("[2001:db8:0:%x::1]:1", i+1) }, 160},
		"IPv4 in IPv6":   {func(i int) string { return []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:1"}[i%2] }, 10},
		"all over IPv4":  {func(i int) string { return fmt.Sprintf("192.0.%d.%d:1", i/200, i%200) }, 400},
		"all over IPv6":  {func(i int) string { return fmt.Sprintf("[2001:%x::1]:1", i+1) }, 400},
		"ports of one":   {func(i int) string { return fmt.Sprintf("192.0.2.1:%d", i+1) }, 10},
		"what is no one": {func(int) string { return "@" }, 10},
	} {
		s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: server.Limits{PerIP: server.Rate{PerSecond: 0.001, Burst: 10}}})
		let := 0
		for i := range 400 {
			r := httptest.NewRequest(http.MethodPost, "/v1/hosts/begin", nil)
			r.RemoteAddr = tt.address(i)
			if done, err := admit(s, r); err == nil {
				done(false)
				let++
			}
		}
		if let != tt.let {
			t.Errorf("%s: %d let in, want %d", name, let, tt.let)
		}
	}
}

// Who was refused, or is too quick, is not forgotten because many others ask: only
// because many others are as much behind.
func TestPenaltiesStay(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: server.Limits{PerIP: server.Rate{PerSecond: 0.001, Burst: 2}}})
	ask := func(address string, refused bool) bool {
		r := httptest.NewRequest(http.MethodPost, "/v1/hosts/begin", nil)
		r.RemoteAddr = address
		done, err := admit(s, r)
		if err != nil {
			return false
		}
		done(refused)
		return true
	}
	for range 4 {
		ask("192.0.2.1:1", true)
	}
	for range 2 {
		ask("192.0.2.2:1", false)
	}
	for _, address := range []string{"192.0.2.1:1", "192.0.2.2:1"} {
		if ask(address, false) {
			t.Fatalf("%s is let in at once", address)
		}
	}
	for i := range 1<<16 + 10 {
		if !ask(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), false) {
			t.Fatalf("another client is refused after %d", i)
		}
	}
	for _, address := range []string{"192.0.2.1:1", "192.0.2.2:1"} {
		if ask(address, false) {
			t.Errorf("%s is let in after so many others", address)
		}
	}
}

// admit lets a request in that has arrived at once.
func admit(s sold, r *http.Request) (done func(bool), err error) {
	enter, err := s.Server.Admit(r)
	if err != nil {
		return nil, err
	}
	return enter()
}
