package hosting

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/sleep"
	"github.com/ovsactl/ovsactl/licensing/model"
)

// Licensor gets the right to use models.
type Licensor interface {
	// Acquire proves where the guest runs, for the licence of a version, and opens it.
	Acquire(ctx context.Context, v Version) (Licensed, error)
}

// Licensed is a version that may be used.
type Licensed interface {
	Model() *model.Model
	// Lease says until when it may be used, as of now, and when that was proven last.
	Lease() (until, proven time.Time)
	// Keep sees to it that it may be used on, and returns why it may not any more, or
	// when ctx ends.
	Keep(ctx context.Context) error
	// Close wipes the keys and gives the right back. The model cannot be read then.
	Close()
}

// Engine runs a server for models.
type Engine interface {
	// Start starts one that sees these: of each model all versions, the newest first.
	Start(ctx context.Context, models []Shown) (Instance, error)
}

// Shown is a version that an engine sees, as NAME/NUMBER.
type Shown struct {
	Name   string
	Number int64
	Model  *model.Model
	Engine string // what its configuration has for the engine: see ModelConfig
}

// Instance is an engine that runs.
type Instance interface {
	// Ready returns when it answers, or cannot.
	Ready(ctx context.Context) error
	// Serves says of one that is ready why it does not answer for a version that it
	// sees: nil where it does.
	Serves(ctx context.Context, name string, number int64) error
	// Hide takes a version away from it, at once. It may fail then.
	Hide(name string, number int64)
	// Stop ends it, and returns when nothing of it is left.
	Stop()
	// Ended is closed when it has ended, for the reason Err, which is never nil then.
	Ended() <-chan struct{}
	Err() error
}

// State is what becomes of a version, or of the engine.
type State string

const (
	Waiting  State = "waiting"  // for its turn, or its engine for a model
	Proving  State = "proving"  // that it may be used
	Refused  State = "refused"  // it cannot be had now: it is tried again
	Granted  State = "licensed" // it may be used, and no engine answers for it yet
	Ready    State = "ready"    // an engine answers for it
	Starting State = "starting" // of an engine
	Failed   State = "failed"   // the engine ended, and is started again; or it cannot use a version
)

// Status is the state of a version.
type Status struct {
	Name    string    `json:"model"`
	Version int64     `json:"version,omitempty"` // 0 where a model has none
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Lease   time.Time `json:"lease_until,omitzero"`
	Proven  time.Time `json:"last_proof,omitzero"`
	Why     string    `json:"why,omitempty"` // it is not ready
}

// Options are what a Host is made of.
type Options struct {
	Models []ModelConfig
	// Config says which models there are now, each time that it is looked. Its error
	// leaves all as it is. nil: Models for ever.
	Config   func() ([]ModelConfig, error)
	Licensor Licensor
	Engine   Engine
	Log      *slog.Logger
	// Again is how long to wait after a failure, twice as long each time up to
	// MaxAgain; 1 second and 1 minute.
	Again, MaxAgain time.Duration
	// Look is how often it is looked whether there are other models, other versions, or
	// other files of one; 10 seconds.
	Look time.Duration
	// Settle is for how long the first engine waits for models that are not refused
	// yet, while there are others; 30 seconds.
	Settle time.Duration
}

// Host serves models.
type Host struct {
	opts Options

	mu       sync.Mutex
	versions map[id]*held
	looked   bool          // which versions there are is known
	settled  bool          // the first engine waits for nothing any more
	engine   Status        // of the engine; its Version is how often it was started
	running  *instance     // nil for none
	changed  chan struct{} // closed and made anew when there is something to do
	config   ConfigStatus

	looks chan chan struct{} // who wants it to be looked now; closed when it was
}

type id struct {
	name   string
	number int64
}

// newestFirst is the order of models by their names, and of a model's versions.
func newestFirst(a, b id) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(b.number, a.number))
}

// held is what is known of a version.
type held struct {
	Status
	tried    bool
	licensed Licensed // while it may be used

	model ModelConfig // does not change

	// Of look alone:
	files  string             // which they are: see Version.stamp
	forget context.CancelFunc // has it not be kept any more; nil for what is no version
	gone   chan struct{}      // closed when it is not
}

// instance is an engine that runs, and what it was started with.
type instance struct {
	Instance
	models map[id]bool
}

// New makes a Host, which does nothing yet.
func New(o Options) *Host {
	if o.Again == 0 {
		o.Again = time.Second
	}
	if o.MaxAgain == 0 {
		o.MaxAgain = time.Minute
	}
	if o.Look == 0 {
		o.Look = 10 * time.Second
	}
	if o.Settle == 0 {
		o.Settle = 30 * time.Second
	}
	now := time.Now().UTC()
	return &Host{
		opts: o, versions: map[id]*held{}, changed: make(chan struct{}), looks: make(chan chan struct{}),
		engine: Status{State: Waiting, Since: now}, config: ConfigStatus{Models: len(o.Models), Since: now},
	}
}

// Run serves until ctx ends. A model that cannot be had does not stop the others. All
// that it started has ended when it returns, and all keys are wiped.
func (h *Host) Run(ctx context.Context) error {
	var all errgroup.Group
	all.Go(func() error { h.look(ctx, &all); return nil })
	all.Go(func() error { h.serve(ctx); return nil })
	settle := time.AfterFunc(h.opts.Settle, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.settled = true
		h.tell()
	})
	defer settle.Stop()
	return all.Wait()
}

// Status is that of each version, in the order of their names, the newest first, and
// of the engine.
func (h *Host) Status() (models []Status, engine Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.versions {
		s := v.Status
		if v.licensed != nil {
			s.Lease, s.Proven = v.licensed.Lease()
		}
		models = append(models, s)
	}
	slices.SortFunc(models, func(a, b Status) int { return newestFirst(id{a.Name, a.Version}, id{b.Name, b.Version}) })
	return models, h.engine
}

// Changed is closed when the next status may be another.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// set notes the state of a version, which it returns, and says so.
func (h *Host) set(of id, s State, why error) *held {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.versions[of]
	if v == nil {
		v = &held{Status: Status{Name: of.name, Version: of.number}}
		h.versions[of] = v
	}
	if s == Refused || s == Granted {
		v.tried = true
	}
	v.note(s, why)
	log := h.opts.Log.With("model", of.name, "version", of.number, "state", string(s))
	if why != nil {
		log.Warn("model", "why", v.Why)
	} else {
		log.Info("model")
	}
	h.tell()
	return v
}

func (s *Status) note(to State, why error) {
	s.State, s.Since, s.Why = to, time.Now().UTC(), ""
	if why != nil {
		s.Why = why.Error()
	}
}

// tell wakes who waits for a change. It is called with mu held.
func (h *Host) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// keep has the right to use a version for as long as that can be had.
func (h *Host) keep(ctx context.Context, v Version) {
	of := id{v.Model.Name, v.Number}
	for failures := 0; ctx.Err() == nil; {
		h.set(of, Proving, nil)
		l, err := h.opts.Licensor.Acquire(ctx, v)
		if err == nil {
			failures = 0
			h.give(of, l)
			err = l.Keep(ctx)
			h.take(ctx, of, err)
			l.Close()
		}
		if ctx.Err() != nil {
			return
		}
		h.set(of, Refused, err)
		h.wait(ctx, failures)
		failures++
	}
}

// wait waits after so many failures.
func (h *Host) wait(ctx context.Context, failures int) {
	d := h.opts.MaxAgain
	if failures < 16 {
		d = min(d, h.opts.Again<<failures)
	}
	sleep.For(ctx, d) // whoever waits looks at ctx itself
}

// give lets a version be served.
func (h *Host) give(of id, l Licensed) {
	h.mu.Lock()
	h.versions[of].licensed = l
	h.mu.Unlock()
	h.set(of, Granted, nil)
}

// take takes a version away, and returns when no engine has anything of it.
func (h *Host) take(ctx context.Context, of id, why error) {
	h.mu.Lock()
	h.versions[of].licensed = nil
	running := h.running
	h.mu.Unlock()
	if running == nil || !running.models[of] {
		return
	}
	running.Hide(of.name, of.number)
	if ctx.Err() == nil {
		h.opts.Log.Warn("the engine is stopped: a model may not be used any more", "model", of.name, "version", of.number, "why", why.Error())
	}
	running.Stop()
}

// serve runs an engine whenever there is a model for it.
func (h *Host) serve(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		models, changed := h.ready()
		if len(models) == 0 {
			h.noteEngine(Waiting, nil)
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		began := time.Now()
		err := h.run(ctx, models)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // it is to see other models
			failures = 0
			continue
		}
		if time.Since(began) > 2*h.opts.MaxAgain {
			failures = 0
		}
		h.noteEngine(Failed, err)
		h.wait(ctx, failures)
		failures++
	}
}

// ready are the versions that may be used, when all were tried.
func (h *Host) ready() (models []Shown, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.looked {
		return nil, h.changed
	}
	for of, v := range h.versions {
		if !v.tried && !h.settled {
			return nil, h.changed
		}
		if v.licensed != nil {
			models = append(models, Shown{of.name, of.number, v.licensed.Model(), v.model.Engine})
		}
	}
	slices.SortFunc(models, func(a, b Shown) int { return newestFirst(id{a.Name, a.Number}, id{b.Name, b.Number}) })
	h.settled = h.settled || len(models) > 0
	return models, h.changed
}

func (h *Host) noteEngine(s State, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine.State == s && why == nil {
		return
	}
	h.engine.note(s, why)
	h.tell()
	log := h.opts.Log.With("state", string(s))
	if why != nil {
		log.Error("engine", "why", why.Error())
		return
	}
	log.Info("engine")
}

// run runs an engine until it is to see other models, which is no error, or it ends.
func (h *Host) run(ctx context.Context, models []Shown) error {
	h.mu.Lock()
	h.engine.Version++
	h.mu.Unlock()
	h.noteEngine(Starting, nil)
	i, err := h.opts.Engine.Start(ctx, models)
	if err != nil {
		return err
	}
	defer func() {
		i.Stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running = nil
		for _, v := range h.versions {
			if v.licensed != nil && (v.State == Ready || v.State == Failed) {
				v.note(Granted, nil)
			}
		}
		h.tell()
	}()
	in := &instance{i, map[id]bool{}}
	for _, m := range models {
		in.models[id{m.Name, m.Number}] = true
	}
	if !h.attach(in) {
		return nil
	}
	ready := make(chan error, 1)
	unserved := map[id]error{} // until ready, of the goroutine alone
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := i.Ready(waiting)
		if err == nil {
			for _, m := range models {
				unserved[id{m.Name, m.Number}] = i.Serves(waiting, m.Name, m.Number)
			}
		}
		ready <- err
	}()
	for {
		h.mu.Lock()
		changed, same := h.changed, h.same(in)
		h.mu.Unlock()
		if !same {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-i.Ended():
			h.mu.Lock()
			same := h.same(in)
			h.mu.Unlock()
			if !same { // it was stopped
				return nil
			}
			return fmt.Errorf("the engine ended: %w", i.Err())
		case err := <-ready:
			if err != nil {
				return err
			}
			h.answers(in, unserved)
		}
	}
}

// attach notes that an engine runs, unless what it sees may not be used any more.
func (h *Host) attach(in *instance) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.same(in) {
		return false
	}
	h.running = in
	return true
}

// same says whether the models that may be used are those that an engine sees. It is
// called with mu held.
func (h *Host) same(in *instance) bool {
	n := 0
	for of, v := range h.versions {
		if v.licensed == nil {
			continue
		}
		if n++; !in.models[of] {
			return false
		}
	}
	return n == len(in.models)
}

// answers notes that an engine answers for what it sees, and why not for some of it.
func (h *Host) answers(in *instance, unserved map[id]error) {
	h.noteEngine(Ready, nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	for of, v := range h.versions {
		if !in.models[of] || v.licensed == nil {
			continue
		}
		if why := unserved[of]; why != nil {
			v.note(Failed, why)
			h.opts.Log.Error("the engine cannot use a model", "model", of.name, "version", of.number, "why", why.Error())
			continue
		}
		v.note(Ready, nil)
	}
	h.tell()
}
