package server_test

import (
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// Guests are told times in whole seconds: a lease that would be over before a second
// is is not given, and that is no failure of the server's.
func TestLeaseOfLessThanASecond(t *testing.T) {
	at := time.Now().Truncate(time.Second).Add(100 * time.Millisecond)
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 300 * time.Millisecond, Now: func() time.Time { return at }})
	s.refused(t, s.guest, exchange.Expired, "in less than a second")
}
