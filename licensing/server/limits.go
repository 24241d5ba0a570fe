package server

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// Limits are how much is let through. A guest's endorsement key and a licence are
// counted once whoever asks has proven to have them: a stranger cannot use up
// another's share.
type Limits struct {
	PerIP      Rate // of requests; 50 a second, 200 at once
	PerEK      Rate // of proofs; 1 a second, 20 at once
	PerLicence Rate // of proofs; 100 a second, 1,000 at once
	InFlight   int  // requests at the same time; 256
}

// Rate is how much there may be in the long run, and at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

const (
	maxLimited = 1 << 16 // addresses, keys and licences that are remembered
	// backOff is the share of a burst that a refusal costs an address, and
	// maxDebt how many bursts it may be behind.
	backOff = 0.1
	maxDebt = 2
)

type limits struct {
	Limits
	limiters *lru.Cache[string, *rate.Limiter]
	slots    chan struct{}
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
	cache, err := lru.New[string, *rate.Limiter](maxLimited)
	if err != nil {
		return nil, fmt.Errorf("rate limits: %w", err)
	}
	return &limits{l, cache, make(chan struct{}, l.InFlight)}, nil
}

func (l *limits) limiter(key string, r Rate) *rate.Limiter {
	if limiter, ok := l.limiters.Get(key); ok {
		return limiter
	}
	limiter := rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
	if there, ok, _ := l.limiters.PeekOrAdd(key, limiter); ok {
		return there
	}
	return limiter
}

// take spends one of what key may have, or refuses.
func (l *limits) take(req *request, key string, r Rate) error {
	if !l.limiter(key, r).AllowN(req.now, 1) {
		return refuse(exchange.SlowDown, "%s is over its limit of %g a second", key, r.PerSecond)
	}
	return nil
}

// punish makes an address that was refused wait longer each time, and tells
// for how long a client is to wait.
func (l *limits) punish(req *request, code exchange.Code) time.Duration {
	if code == exchange.Unavailable {
		return time.Second
	}
	if req.peer == "" {
		return 0
	}
	limiter := l.limiter("ip "+req.peer, l.PerIP)
	if code == exchange.BadRequest || code == exchange.NotAllowed {
		if limiter.TokensAt(req.now) > -maxDebt*float64(l.PerIP.Burst) {
			limiter.ReserveN(req.now, max(1, int(backOff*float64(l.PerIP.Burst))))
		}
	}
	if lack := 1 - limiter.TokensAt(req.now); lack > 0 {
		return time.Duration(lack / l.PerIP.PerSecond * float64(time.Second))
	}
	if code == exchange.SlowDown {
		return time.Second
	}
	return 0
}

// enter takes a slot, or refuses when all are taken. Each is left once.
func (l *limits) enter() error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
		return refuse(exchange.Unavailable, "%d requests are under way", l.InFlight)
	}
}

func (l *limits) leave() { <-l.slots }
