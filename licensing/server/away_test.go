package server_test

import (
	"errors"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// A server whose database is away says that it cannot decide: nothing was renewed, and
// no place given back.
func TestDatabaseThatIsAway(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	lease := s.good(t, s.guest)
	if err := s.Ledger.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"renewal": lease.Renew(t.Context()), "end": lease.End(t.Context())} {
		var p *exchange.Problem
		if !errors.As(err, &p) || p.Code != exchange.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.refused(t, s.guest, exchange.Unavailable, "closed")
}
