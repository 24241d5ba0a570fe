package ui

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// startedAfter is how long a step takes before it is worth a line that it began.
	startedAfter = 2 * time.Second
	// stillEvery is how long a step is silent before a line says that it goes on.
	stillEvery = 30 * time.Second
)

// plain writes a line per event.
type plain struct {
	w   io.Writer
	now func() time.Time

	mu     sync.Mutex
	steps  map[string]*running
	closed bool
	stop   func()
}

// running is a step in progress.
type running struct {
	begin, told time.Time
	started     bool // that has been told
	copying     copying
}

// NewPlain is a view for pipes and logs: a line when a step ends or does
// something else, and for what takes long one when it has begun and one every
// half minute.
func NewPlain(w io.Writer) View { return newPlain(w, time.Now) }

func newPlain(w io.Writer, now func() time.Time) *plain {
	p := &plain{w: w, now: now, steps: make(map[string]*running)}
	p.stop = every(time.Second, p.tick)
	return p
}

func (p *plain) Observe(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := p.now()
	switch e.Kind {
	case Started:
		p.steps[e.Step] = &running{begin: now, told: now}
	case Progress:
		r := p.steps[e.Step]
		if r == nil {
			return
		}
		// What a stage does just now is for people who watch.
		if r.copying.observe(e, now) {
			r.told, r.started = now, true
			fmt.Fprintf(p.w, "%s: %s\n", e.Step, Line(stageOf(e)))
		}
	case Done:
		delete(p.steps, e.Step)
		fmt.Fprintf(p.w, "%s: done after %s\n", e.Step, Duration(e.Elapsed))
	case Failed:
		delete(p.steps, e.Step)
		fmt.Fprintf(p.w, "%s: failed after %s: %s\n", e.Step, Duration(e.Elapsed), Line(e.Text))
	case Skipped: // the failure before it has been told
	case Note:
		fmt.Fprintf(p.w, "%s: %s\n", e.Step, Line(e.Text))
	}
}

func (p *plain) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, step := range slices.Sorted(maps.Keys(p.steps)) {
		r := p.steps[step]
		if p.closed {
			return
		}
		if !r.started && now.Sub(r.begin) >= startedAfter {
			r.started = true
			fmt.Fprintf(p.w, "%s: started\n", step)
		}
		if now.Sub(r.told) < stillEvery {
			continue
		}
		r.told = now
		line := fmt.Sprintf("%s: still running, %s", step, Duration(now.Sub(r.begin)))
		if a := r.copying.amount(now); a != "" {
			line += ", " + a
		}
		fmt.Fprintln(p.w, line)
	}
}

func (p *plain) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
}

// every calls f in a goroutine of its own until stop is called.
func every(d time.Duration, f func()) (stop func()) {
	over := make(chan struct{})
	t := time.NewTicker(d)
	go func() {
		defer t.Stop()
		for {
			select {
			case <-over:
				return
			case <-t.C:
				f()
			}
		}
	}()
	return sync.OnceFunc(func() { close(over) })
}
