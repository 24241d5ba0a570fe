package server

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

const (
	// foldFor is how long refusals of one guest by one check are one entry of the audit
	// log, so that nobody who is refused can fill it.
	foldFor     = time.Hour
	maxRefusals = 1 << 14
)

// refusals counts those that were not logged yet.
type refusals struct {
	mu    sync.Mutex
	known *lru.Cache[foldKey, folded]
	lost  []folded // counts of those that others pushed out
}

// foldKey is what a guest cannot vary as it likes: it is no text of a cause.
type foldKey struct {
	licence, model, guest string
	check                 Check
	step                  string
}

// folded is a refusal that was logged, and those like it since.
type folded struct {
	since   time.Time
	more    int
	claim   ledger.Claim
	by      string
	request string // the last
	reason  string // of the last
}

func newRefusals() (*refusals, error) {
	r := &refusals{}
	var err error
	r.known, err = lru.NewWithEvict(maxRefusals, func(_ foldKey, f folded) {
		if f.more > 0 {
			r.lost = append(r.lost, f)
		}
	})
	return r, err
}

// count says how many refusals there are to be logged now, this one with those since
// the last entry; 0 when it is counted, to be logged with a later one.
func (r *refusals) count(key foldKey, f folded) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.known.Get(key)
	if ok && f.since.Sub(last.since) < foldFor {
		f.since, f.more = last.since, last.more+1
		r.known.Add(key, f)
		return 0
	}
	r.known.Add(key, f)
	return last.more + 1
}

// due takes the counts that were not logged for an hour, or all.
func (r *refusals) due(now time.Time, all bool) []folded {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range r.known.Keys() {
		f, ok := r.known.Peek(key)
		if !ok || !all && now.Sub(f.since) < foldFor {
			continue
		}
		r.known.Remove(key) // which counts as being pushed out
	}
	due := r.lost
	r.lost = nil
	return due
}

// Settle has the audit log know of refusals that were counted and not logged yet: of
// those of an hour ago and, before the server ends, of all. What it cannot log is not
// counted again.
func (s *Server) Settle(ctx context.Context, all bool) error {
	var errs []error
	now := s.opts.Now()
	for _, f := range s.refusals.due(now, all) {
		errs = append(errs, s.ledger.Refuse(ledger.On(ctx, f.by, f.request), f.claim, f.reason, f.more, now))
	}
	return errors.Join(errs...)
}
