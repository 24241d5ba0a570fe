package server

import (
	"fmt"
	"testing"

	"github.com/ovsactl/ovsactl/internal/netclient"
	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// There are only so many slots for renewals, too, whoever asks for them; who is too
// late is told to try again, and not that he is to blame.
func TestSlotsOfRenewals(t *testing.T) {
	l, err := newLimits(Limits{InFlight: 4})
	if err != nil {
		t.Fatal(err)
	}
	from := func(n int) *request {
		return &request{client: netclient.Of(fmt.Sprintf("192.0.2.%d:1", n)), renews: true}
	}
	for n := range 4 {
		if err := l.enter(from(n)); err != nil {
			t.Fatalf("renewal %d: %v", n+1, err)
		}
	}
	if err := l.enter(from(4)); codeOf(err) != exchange.Unavailable {
		t.Errorf("a fifth one: %v", err)
	}
	l.leave(from(0))
	if err := l.enter(from(4)); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	for n := range 4 {
		l.leave(from(n + 1))
	}
	if l.busy != 0 || len(l.of) != 0 {
		t.Errorf("%d are busy, of %d clients, and all have left", l.busy, len(l.of))
	}
}
