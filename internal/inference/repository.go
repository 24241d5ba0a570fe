package inference

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

var (
	// ErrUnknownModel says that no library knows what a directory has.
	ErrUnknownModel = errors.New("no model that can be loaded")
	// ErrNotFound says that there is no such model, or no such version of one.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable says that a version is there, and could not be loaded.
	ErrUnavailable = errors.New("not available")
)

// Version is one of a model.
type Version struct {
	Name   string
	Number int64

	model Model
	err   error // why there is none
	gate  chan struct{}
	stats stats
}

// Stats is what a version has done.
type Stats struct {
	Succeeded, Failed int64         // requests
	Waiting, Running  time.Duration // of them, all together
}

type stats struct {
	mu sync.Mutex
	Stats
}

// Repository is which models are served. It does not change.
type Repository struct {
	runtime  Runtime
	versions map[string][]*Version // the newest first
}

// Open loads each NAME/NUMBER of a directory. One that cannot be loaded is there, and
// not available.
func Open(dir string, rt Runtime, log *slog.Logger) (*Repository, error) {
	r := &Repository{runtime: rt, versions: map[string][]*Version{}}
	// As many run at the same time as there are cores: more would only take memory.
	gate := make(chan struct{}, runtime.GOMAXPROCS(0))
	models, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for models: %w", err)
	}
	for _, m := range models {
		versions, err := os.ReadDir(filepath.Join(dir, m.Name()))
		if err != nil {
			return nil, fmt.Errorf("look for versions of model %q: %w", m.Name(), err)
		}
		for _, entry := range versions {
			n, err := strconv.ParseInt(entry.Name(), 10, 64)
			if err != nil || n < 1 {
				continue
			}
			v := &Version{Name: m.Name(), Number: n, gate: gate}
			began := time.Now()
			if v.model, v.err = rt.Load(filepath.Join(dir, m.Name(), entry.Name())); v.err != nil {
				log.Error("a model cannot be loaded", "model", v.Name, "version", n, "why", v.err.Error())
			} else {
				log.Info("loaded", "model", v.Name, "version", n, "seconds", time.Since(began).Seconds())
			}
			r.versions[v.Name] = append(r.versions[v.Name], v)
		}
		slices.SortFunc(r.versions[m.Name()], func(a, b *Version) int { return cmp.Compare(b.Number, a.Number) })
	}
	return r, nil
}

// Runtime is the name of the library.
func (r *Repository) Runtime() string { return r.runtime.Name() }

// Models are the names of all, sorted.
func (r *Repository) Models() []string {
	var all []string
	for name := range r.versions {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Versions are those of a model, the newest first: ErrNotFound.
func (r *Repository) Versions(name string) ([]*Version, error) {
	all, is := r.versions[name]
	if !is {
		return nil, fmt.Errorf("model %q: %w", name, ErrNotFound)
	}
	return all, nil
}

// Version is one of a model; for 0 the newest that is available, or else the newest.
// It is ErrNotFound where there is none.
func (r *Repository) Version(name string, number int64) (*Version, error) {
	all, err := r.Versions(name)
	if err != nil {
		return nil, err
	}
	is := func(v *Version) bool { return v.Number == number }
	if number == 0 {
		is = func(v *Version) bool { return v.err == nil }
	}
	switch at := slices.IndexFunc(all, is); {
	case at >= 0:
		return all[at], nil
	case number == 0:
		return all[0], nil
	}
	return nil, fmt.Errorf("version %d of model %q: %w", number, name, ErrNotFound)
}

// Close closes all models. Nothing may run then.
func (r *Repository) Close() {
	for _, versions := range r.versions {
		for _, v := range versions {
			if v.err == nil {
				v.model.Close()
			}
		}
	}
}

// Available is why a version is not: ErrUnavailable.
func (v *Version) Available() error {
	if v.err == nil {
		return nil
	}
	return fmt.Errorf("version %d of model %q: %w: %w", v.Number, v.Name, ErrUnavailable, v.err)
}

// Inputs are the model's, none where it is not available.
func (v *Version) Inputs() []Port {
	if v.err != nil {
		return nil
	}
	return v.model.Inputs()
}

// Outputs are the model's, none where it is not available.
func (v *Version) Outputs() []Port {
	if v.err != nil {
		return nil
	}
	return v.model.Outputs()
}

// Stats is what it has done.
func (v *Version) Stats() Stats {
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	return v.stats.Stats
}

// Infer runs the model for a request: its inputs in any order, and the names of the
// outputs that it wants, all where there is none. It waits for its turn. What is wrong
// with the request is ErrInvalid.
func (v *Version) Infer(ctx context.Context, inputs []Tensor, outputs []string) ([]Tensor, error) {
	if err := v.Available(); err != nil {
		return nil, err
	}
	arranged, err := Arrange(v.model.Inputs(), inputs)
	if err != nil {
		return nil, err
	}
	wanted, err := Select(v.model.Outputs(), outputs)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	select {
	case v.gate <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-v.gate }()
	if err := ctx.Err(); err != nil { // both were so
		return nil, context.Cause(ctx)
	}
	began := time.Now()
	answer, err := v.model.Run(ctx, arranged, wanted)
	v.note(began.Sub(asked), time.Since(began), err)
	if err != nil {
		return nil, fmt.Errorf("run model %q: %w", v.Name, err)
	}
	if len(answer) != len(wanted) {
		return nil, fmt.Errorf("run model %q: it has %d outputs, of %d", v.Name, len(answer), len(wanted))
	}
	for _, t := range answer {
		if err := t.Check(); err != nil { // that is not who asked: not ErrInvalid
			return nil, fmt.Errorf("run model %q: an output is wrong: %s", v.Name, err.Error())
		}
	}
	return answer, nil
}

func (v *Version) note(waited, ran time.Duration, err error) {
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	v.stats.Waiting += waited
	v.stats.Running += ran
	if err != nil {
		v.stats.Failed++
		return
	}
	v.stats.Succeeded++
}
