package ledgertest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// testTogether: of renewals that are decided together, on two servers, each has its
// own answer, and every one that was granted is counted, once.
func testTogether(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers, ctx := []*ledger.Ledger{open(t), open(t)}, t.Context()
	l := servers[0]
	const guests, rounds = 30, 6
	var leases []ledger.Lease
	for n := range guests {
		store(t, l, licence(n, nil), noon)
		c := claim(n, fmt.Sprint(n))
		c.Subjects = []ledger.Subject{{Kind: ledger.KindGuest, ID: c.Guest}}
		leases = append(leases, must[ledger.Lease](t)(l.Claim(ctx, c, noon)))
	}
	if err := errors.Join(
		l.Revoke(ctx, ledger.Subject{Kind: ledger.KindGuest, ID: "0"}, "stolen", noon),
		l.Revoke(ctx, ledger.Subject{Kind: ledger.KindLicence, ID: guid(1)}, "stolen", noon),
		l.Archive(ctx, []ledger.Key{{GUID: guid(2), Model: model}}, noon),
		l.End(ctx, leases[3].ID, "3", noon),
	); err != nil {
		t.Fatal(err)
	}
	want := map[int]error{0: ledger.ErrRevoked, 1: ledger.ErrRevoked, 2: ledger.ErrNoLease, 3: ledger.ErrNoLease, 4: ledger.ErrNoLease}
	var all sync.WaitGroup
	for n := range guests {
		for round := range rounds {
			all.Go(func() {
				guest := fmt.Sprint(n)
				if n == 4 {
					guest = "another"
				}
				got, err := servers[round%2].Renew(ctx, leases[n].ID, guest, 2*time.Hour, month, noon)
				if !errors.Is(err, want[n]) || want[n] == nil && (got.ID != leases[n].ID || got.Guest != guest || !got.Expires.Equal(noon.Add(2*time.Hour))) {
					t.Errorf("guest %d: %+v, %v, want %v", n, got, err, want[n])
				}
			})
		}
	}
	all.Wait()
	for n := 5; n < guests; n++ {
		if err := l.End(ctx, leases[n].ID, fmt.Sprint(n), noon); err != nil {
			t.Fatal(err)
		}
	}
	counted := map[string]int{} // an entry of one renewal, and the rest with the end
	for _, e := range audit(t, l) {
		switch {
		case e.Refused != "":
		case e.What == "renew":
			counted[e.Guest] += max(e.Count, 1)
		case e.What == "end":
			counted[e.Guest] += e.Count
		}
	}
	for n := 5; n < guests; n++ {
		if counted[fmt.Sprint(n)] != rounds {
			t.Errorf("guest %d: %d renewals counted, want %d", n, counted[fmt.Sprint(n)], rounds)
		}
	}
	if _, _, err := l.VerifyAudit(ctx, nil); err != nil {
		t.Error(err)
	}
}

// testLastMoment: one server renews a lease in its last moment and another gives its
// place away, as its time is over there. One of the two does not happen.
func testLastMoment(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers, ctx := []*ledger.Ledger{open(t), open(t)}, t.Context()
	const seats = 150
	end := noon.Add(time.Hour)
	var leases []ledger.Lease
	for n := range seats {
		store(t, servers[0], licence(n, instances(1)), noon)
		leases = append(leases, must[ledger.Lease](t)(servers[0].Claim(ctx, claim(n, fmt.Sprint("first", n)), noon)))
	}
	var all sync.WaitGroup
	held := make([]atomic.Int32, seats)
	for n := range seats {
		all.Go(func() {
			_, err := servers[0].Renew(ctx, leases[n].ID, leases[n].Guest, time.Hour, month, end.Add(-time.Nanosecond))
			if err == nil {
				held[n].Add(1)
			} else if !errors.Is(err, ledger.ErrNoLease) {
				t.Error(err)
			}
		})
		all.Go(func() {
			late := claim(n, fmt.Sprint("second", n))
			late.Expires = end.Add(time.Hour)
			_, err := servers[1].Claim(ctx, late, end)
			if err == nil {
				held[n].Add(1)
			} else if !errors.Is(err, ledger.ErrExhausted) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for n := range held {
		if got := held[n].Load(); got != 1 {
			t.Errorf("%d guests hold the one place of licence %d", got, n)
		}
		if u := must[ledger.Usage](t)(servers[0].Usage(ctx, guid(n), model, end)); u.Held != 1 {
			t.Errorf("licence %d: %+v", n, u)
		}
	}
}

// testAgain: claims of one guest that are decided together leave it one lease, the
// last one; each counts.
func testAgain(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers, ctx := []*ledger.Ledger{open(t), open(t)}, t.Context()
	store(t, servers[0], licence(1, nil), noon)
	store(t, servers[0], licence(2, instances(2)), noon)
	const claims = 40
	var all sync.WaitGroup
	var mu sync.Mutex
	given := map[string]int{}
	for i := range claims {
		for n := 1; n <= 2; n++ {
			all.Go(func() {
				lease, err := servers[i%2].Claim(ctx, claim(n, "a"), noon)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				given[lease.ID] = n
			})
		}
	}
	all.Wait()
	renewed := map[int]int{}
	for id, n := range given {
		if _, err := servers[0].Renew(ctx, id, "a", time.Hour, month, noon); err == nil {
			renewed[n]++
		}
	}
	for n := 1; n <= 2; n++ {
		if u := must[ledger.Usage](t)(servers[0].Usage(ctx, guid(n), model, noon)); u != (ledger.Usage{Held: 1, Claims: claims}) || renewed[n] != 1 {
			t.Errorf("licence %d: %+v, %d leases can be renewed", n, u, renewed[n])
		}
	}
}

// testManyChallenges: each of many that are kept and taken together is its own.
func testManyChallenges(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers, ctx := []*ledger.Ledger{open(t), open(t)}, t.Context()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			id := fmt.Sprint("c", i)
			if err := servers[i%2].Offer(ctx, id, []byte(id), noon.Add(time.Minute), noon); err != nil {
				t.Error(err)
				return
			}
			data, err := servers[(i+1)%2].Take(ctx, id, noon)
			if err != nil || string(data) != id {
				t.Errorf("%s: %q, %v", id, data, err)
			}
		})
	}
	all.Wait()
}

// testResetWithClaim: a guest that is reset in the transaction in which it claims has
// no lease: what is decided later sees what was decided before.
func testResetWithClaim(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	store(t, l, licence(2, nil), noon)
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon)) // a guest that is known
	begun, over := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // what comes meanwhile waits, and is decided together
		other := licence(2, nil)
		other.Document = []byte("replaced")
		if _, err := l.Store(ctx, other, noon, func(ledger.Licence) error {
			close(begun)
			<-over
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-begun
	all.Go(func() {
		if _, err := l.Claim(ctx, claim(1, "a"), noon); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond) // the claim waits by now, most likely
	all.Go(func() {
		if err := l.ResetGuest(ctx, "a", noon); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond)
	close(over)
	all.Wait()
	held := 0 // by what was decided last
	for _, e := range audit(t, l) {
		switch {
		case e.What == "claim" && e.Guest == "a":
			held = 1
		case e.What == "reset":
			held = 0
		}
	}
	if u := must[ledger.Usage](t)(l.Usage(ctx, guid(1), model, noon)); u.Held != held {
		t.Errorf("%d leases are held, and by the log %d", u.Held, held)
	}
}
