// Package vmtest is a host in memory: the whole of the engine's hypervisor port
// with the semantics of *vm.Host and without libvirt. It keeps the domain XML
// that the real renderer makes and reads its answers back from that, so a test
// asserts on what libvirt would be told, not on calls.
package vmtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/vm"
)

// Call is one call of a method of the port. N counts that method's calls from 1.
type Call struct {
	Method string
	Name   string // domain, volume, network, pool or image it is about
	N      int
}

// Host is a host in memory. Set its exported fields before its first use. It is
// safe for concurrent use, and what it holds outlives a run: a test of recovery
// gives the same Host to the next engine.
type Host struct {
	// Before and After are asked around the effect of each call, outside the
	// host's lock. An error is returned to the caller: from Before nothing has
	// happened yet, from After all of it has. They may also panic or block.
	Before, After func(Call) error
	// BootTime passes between Start and the announcement of host keys.
	BootTime time.Duration
	// Silent names domains that never announce host keys.
	Silent map[string]bool
	// Accel is what Accelerator chooses for "auto"; the zero value is TCG.
	Accel vm.Accel
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	mu       sync.Mutex
	calls    []Call
	counts   map[string]int
	injected []injection
	domains  map[string]*guest
	pools    map[string]*pool
	networks map[string]*network
	boots    int
}

type injection struct {
	method string
	n      int
	after  bool
	err    error
}

type guest struct {
	xml     string
	active  bool
	started time.Time
	noMark  bool // nobody wrote down when it started
	serial  []string
}

// Fail makes the nth call of method (from 1; 0: every call) return err without
// effect.
func (h *Host) Fail(method string, n int, err error) { h.inject(injection{method, n, false, err}) }

// FailAfter is Fail for a call that takes effect and then is not heard of: a
// connection that broke, a process that died.
func (h *Host) FailAfter(method string, n int, err error) { h.inject(injection{method, n, true, err}) }

func (h *Host) inject(i injection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.injected = append(h.injected, i)
}

// Heal forgets everything that Fail and FailAfter asked for.
func (h *Host) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.injected = nil
}

// Calls lists the calls made so far, in order.
func (h *Host) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// Forget empties the list of calls and counts from 1 again.
func (h *Host) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls, h.counts = nil, nil
}

// DomainXML returns the definition that the host keeps, "" for none.
func (h *Host) DomainXML(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.domains[name]; g != nil {
		return g.xml
	}
	return ""
}

// AddForeign puts a domain on the host that somebody else defined.
func (h *Host) AddForeign(definition string, active bool) error {
	s, err := vm.ParseDomain(definition)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.make()
	h.domains[s.Name] = &guest{xml: definition, active: active, started: h.now()}
	return nil
}

// ForgetStart makes the guest's start somebody else's, or that of a process
// which died just after: State.StartedAt is zero.
func (h *Host) ForgetStart(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.domains[name]; g != nil {
		g.noMark = true
	}
}

// Left describes everything on the host that is not a foreign domain, one line
// each, sorted: what a test of destroy wants to see empty. Base volumes stay
// by design and are marked.
func (h *Host) Left() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var left []string
	for name, g := range h.domains {
		if s, err := vm.ParseDomain(g.xml); err == nil && s.Ours {
			left = append(left, "domain "+name)
		}
	}
	for poolName, p := range h.pools {
		for name, v := range p.volumes {
			kind := "volume "
			if v.base {
				kind = "base "
			}
			left = append(left, kind+poolName+"/"+name)
		}
	}
	for name, n := range h.networks {
		for _, r := range n.reserved {
			left = append(left, fmt.Sprintf("reservation %s %s %s", name, r.MAC, r.Address))
		}
	}
	slices.Sort(left)
	return left
}

// call runs effect between the hooks. Every method of the port goes through it.
func (h *Host) call(ctx context.Context, method, name string, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	c, before, after := h.enter(method, name)
	if before != nil {
		return fmt.Errorf("%s %q: %w", method, name, before)
	}
	if h.Before != nil {
		if err := h.Before(c); err != nil {
			return err
		}
	}
	h.mu.Lock()
	err := effect()
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if after != nil {
		return fmt.Errorf("%s %q: %w", method, name, after)
	}
	if h.After != nil {
		return h.After(c)
	}
	return nil
}

func (h *Host) enter(method, name string) (c Call, before, after error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.make()
	h.counts[method]++
	c = Call{Method: method, Name: name, N: h.counts[method]}
	h.calls = append(h.calls, c)
	for _, i := range h.injected {
		if i.method != method || i.n != 0 && i.n != c.N {
			continue
		}
		if i.after {
			after = i.err
		} else {
			before = i.err
		}
	}
	return c, before, after
}

// make allows the zero Host.
func (h *Host) make() {
	if h.counts == nil {
		h.counts = map[string]int{}
	}
	if h.domains == nil {
		h.domains, h.pools, h.networks = map[string]*guest{}, map[string]*pool{}, map[string]*network{}
	}
}

func (h *Host) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
