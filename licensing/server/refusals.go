package server

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

const (
	// foldFor is how long refusals of one guest for one reason are one entry of the
	// audit log, so that nobody who is refused can fill it.
	foldFor     = time.Hour
	maxRefusals = 1 << 14
)

// refusals counts those that were not logged yet.
type refusals struct {
	mu    sync.Mutex
	known *lru.Cache[string, folded]
}

type folded struct {
	since time.Time
	more  int
}

func newRefusals() (*refusals, error) {
	known, err := lru.New[string, folded](maxRefusals)
	return &refusals{known: known}, err
}

// count says how many refusals there are to be logged now, this one with those since
// the last entry; 0 when it is counted, to be logged with a later one.
func (r *refusals) count(c ledger.Claim, reason string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := c.GUID + " " + c.Model + " " + c.Guest + " " + reason
	last, ok := r.known.Get(key)
	if ok && now.Sub(last.since) < foldFor {
		r.known.Add(key, folded{last.since, last.more + 1})
		return 0
	}
	r.known.Add(key, folded{since: now})
	return last.more + 1
}
