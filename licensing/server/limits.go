package server

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/internal/netclient"
	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// Limits are how much is let through. A guest's endorsement key and a licence are
// counted once whoever asks has proven to have them: a stranger cannot use up
// another's share.
type Limits struct {
	PerIP      Rate // of requests of one client: see netclient; 50 a second, 200 at once
	PerEK      Rate // of proofs; 1 a second, 20 at once
	PerLicence Rate // of proofs; 100 a second, 1,000 at once
	InFlight   int  // requests that are worked on at the same time; 256
}

// Rate is how much there may be in the long run, and at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

const (
	maxLimited = 1 << 16 // clients, and keys and licences, that are remembered
	// backOff is the share of a burst that a refusal costs a client, and maxDebt how
	// many bursts it may be behind.
	backOff = 0.1
	maxDebt = 2
	// siteShare is how many clients' worth a site of IPv6 has, of its 65,536.
	siteShare = 16
)

// Who may have how much of the slots. Proofs leave some to renewals, which are
// cheap, and without which guests stop.
const (
	proofShare  = 3 // of shareOf
	clientShare = 1
	shareOf     = 4
)

type limits struct {
	Limits
	clients *table // those who ask
	proven  *table // keys and licences, which nobody pushes out who has none

	mu     sync.Mutex
	busy   int // requests under way
	proofs int // of these, what is no renewal
	of     map[netip.Prefix]int
}

func newLimits(l Limits) (*limits, error) {
	for _, d := range []struct {
		rate     *Rate
		fallback Rate
	}{{&l.PerIP, Rate{50, 200}}, {&l.PerEK, Rate{1, 20}}, {&l.PerLicence, Rate{100, 1000}}} {
		if *d.rate == (Rate{}) {
			*d.rate = d.fallback
		}
	}
	if l.InFlight == 0 {
		l.InFlight = 256
	}
	clients, err := newTable(maxLimited)
	if err != nil {
		return nil, err
	}
	proven, err := newTable(maxLimited)
	if err != nil {
		return nil, err
	}
	return &limits{Limits: l, clients: clients, proven: proven, of: map[netip.Prefix]int{}}, nil
}

// table remembers limiters. Those that are behind are kept apart: whoever wants one
// of them to be forgotten has to fall behind as many times.
type table struct {
	even, behind *lru.Cache[string, *rate.Limiter]
}

func newTable(size int) (*table, error) {
	even, err := lru.New[string, *rate.Limiter](size)
	if err != nil {
		return nil, fmt.Errorf("rate limits: %w", err)
	}
	behind, err := lru.New[string, *rate.Limiter](size)
	if err != nil {
		return nil, fmt.Errorf("rate limits: %w", err)
	}
	return &table{even, behind}, nil
}

func (t *table) limiter(key string, r Rate) *rate.Limiter {
	if limiter, ok := t.behind.Get(key); ok {
		return limiter
	}
	if limiter, ok := t.even.Get(key); ok {
		return limiter
	}
	limiter := rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
	if there, ok, _ := t.even.PeekOrAdd(key, limiter); ok {
		return there
	}
	return limiter
}

// take spends one of what key may have.
func (t *table) take(key string, r Rate, now time.Time) bool {
	limiter := t.limiter(key, r)
	if !limiter.AllowN(now, 1) {
		t.behind.Add(key, limiter)
		return false
	}
	if t.behind.Contains(key) { // it has caught up
		t.behind.Remove(key)
		t.even.Add(key, limiter)
	}
	return true
}

// charge makes key wait for a share of its burst longer, up to a limit.
func (t *table) charge(key string, r Rate, now time.Time) {
	limiter := t.limiter(key, r)
	if limiter.TokensAt(now) > -maxDebt*float64(r.Burst) {
		limiter.ReserveN(now, max(1, int(backOff*float64(r.Burst))))
	}
	if limiter.TokensAt(now) < 1 {
		t.behind.Add(key, limiter)
	}
}

// share is what a client, or the site that it is in, may have.
type share struct {
	key  string
	rate Rate
}

func (l *limits) shares(req *request) []share {
	shares := []share{{"client " + req.client.String(), l.PerIP}}
	if site := netclient.Site(req.peer); site != req.client {
		shares = append(shares, share{"site " + site.String(), Rate{siteShare * l.PerIP.PerSecond, siteShare * l.PerIP.Burst}})
	}
	return shares
}

// ask spends one of what a client may ask, or refuses.
func (l *limits) ask(req *request) error {
	for _, s := range l.shares(req) {
		if !l.clients.take(s.key, s.rate, req.now) {
			return refuse(exchange.SlowDown, CheckRate, "%s is over its limit of %g a second", s.key, s.rate.PerSecond)
		}
	}
	return nil
}

// take spends one of what a key or a licence may have, or refuses.
func (l *limits) take(req *request, key string, r Rate) error {
	if !l.proven.take(key, r, req.now) {
		return refuse(exchange.SlowDown, CheckRate, "%s is over its limit of %g a second", key, r.PerSecond)
	}
	return nil
}

// punish makes a client that was refused wait longer each time, and tells for how
// long it is to wait.
func (l *limits) punish(req *request, code exchange.Code) time.Duration {
	if code == exchange.Unavailable {
		return time.Second
	}
	if req.peer == "" {
		return 0
	}
	wait := time.Duration(0)
	for _, s := range l.shares(req) {
		if code == exchange.BadRequest || code == exchange.NotAllowed {
			l.clients.charge(s.key, s.rate, req.now)
		}
		if lack := 1 - l.clients.limiter(s.key, s.rate).TokensAt(req.now); lack > 0 {
			wait = max(wait, time.Duration(lack/s.rate.PerSecond*float64(time.Second)))
		}
	}
	if code == exchange.SlowDown {
		return max(wait, time.Second)
	}
	return wait
}

// enter takes a slot, or refuses when all that this one may have are taken. Each is
// left once.
func (l *limits) enter(req *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.busy >= l.InFlight, !req.renews && l.proofs >= max(1, l.InFlight*proofShare/shareOf):
		return refuse(exchange.Unavailable, CheckRate, "%d requests are under way, %d of them proofs", l.busy, l.proofs)
	case l.of[req.client] >= max(1, l.InFlight*clientShare/shareOf):
		return refuse(exchange.SlowDown, CheckRate, "%d requests of %s are under way", l.of[req.client], req.client)
	}
	l.busy++
	l.of[req.client]++
	if !req.renews {
		l.proofs++
	}
	return nil
}

func (l *limits) leave(req *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if l.of[req.client]--; l.of[req.client] == 0 {
		delete(l.of, req.client)
	}
	if !req.renews {
		l.proofs--
	}
}
