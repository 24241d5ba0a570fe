package hosting

import "sync"

// Counts are how often something was done for a version.
type Counts struct {
	Proofs, FailedProofs     uint64
	Renewals, FailedRenewals uint64 // of leases
}

// Tally counts what is done for versions. It is safe for concurrent use.
type Tally struct {
	mu sync.Mutex
	of map[id]*Counts
}

// Of is what was done for a version.
func (t *Tally) Of(name string, number int64) Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.of[id{name, number}]; c != nil {
		return *c
	}
	return Counts{}
}

// add counts for a version. Without a Tally nobody counts.
func (t *Tally) add(v Version, count func(*Counts)) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := id{v.Model.Name, v.Number}
	if t.of == nil {
		t.of = map[id]*Counts{}
	}
	if t.of[of] == nil {
		t.of[of] = new(Counts)
	}
	count(t.of[of])
}

func (t *Tally) proved(v Version, err error) {
	t.add(v, func(c *Counts) { either(err, &c.Proofs, &c.FailedProofs) })
}

func (t *Tally) renewed(v Version, err error) {
	t.add(v, func(c *Counts) { either(err, &c.Renewals, &c.FailedRenewals) })
}

func either(err error, good, bad *uint64) {
	if err != nil {
		good = bad
	}
	*good++
}
