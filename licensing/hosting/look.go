package hosting

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// ConfigStatus is which configuration is in use.
type ConfigStatus struct {
	Models int       `json:"models"`        // that it has
	Since  time.Time `json:"since"`         // it is in use, or another one is refused
	Why    string    `json:"why,omitempty"` // what is there now is refused
}

// Config is which configuration is in use.
func (h *Host) Config() ConfigStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

// Look has it looked now which models and versions there are, and returns when that
// is known and those that are gone are not served any more. Run has to be under way.
func (h *Host) Look(ctx context.Context) {
	looked := make(chan struct{})
	select {
	case h.looks <- looked:
	case <-ctx.Done():
		return
	}
	select {
	case <-looked:
	case <-ctx.Done():
	}
}

// look looks for models and their versions until ctx ends, and has those kept.
func (h *Host) look(ctx context.Context, all *errgroup.Group) {
	ticks := time.NewTicker(h.opts.Look)
	defer ticks.Stop()
	models := h.opts.Models
	var asked chan struct{} // who waits for this look
	for ctx.Err() == nil {
		models = h.configured(models)
		h.compare(ctx, all, models)
		h.mu.Lock()
		if !h.looked {
			h.looked = true
			h.tell()
		}
		h.mu.Unlock()
		if asked != nil {
			close(asked)
			asked = nil
		}
		select {
		case <-ctx.Done():
		case <-ticks.C:
		case asked = <-h.looks:
		}
	}
}

// configured are the models that there are now: those that there were where nobody
// says others.
func (h *Host) configured(models []ModelConfig) []ModelConfig {
	if h.opts.Config == nil {
		return models
	}
	now, err := h.opts.Config()
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.config.Why
	switch {
	case err != nil && err.Error() != was:
		h.opts.Log.Error("the configuration is refused: what was in use stays", "why", err.Error())
		h.config.Since, h.config.Why = time.Now().UTC(), err.Error()
		h.tell()
	case err == nil && (was != "" || !slices.Equal(now, models)):
		h.opts.Log.Info("the configuration is in use", "models", len(now))
		h.config = ConfigStatus{Models: len(now), Since: time.Now().UTC()}
		h.tell()
	}
	if err != nil {
		return models
	}
	return now
}

// seen are the versions that there are of a model, or why that is not known.
type seen struct {
	model    ModelConfig
	versions []Version
	files    map[int64]string
	err      error
}

func see(m ModelConfig) *seen {
	s := &seen{model: m, files: map[int64]string{}}
	s.versions, s.err = m.Versions()
	for _, v := range s.versions {
		s.files[v.Number] = v.stamp()
	}
	return s
}

// none says that it is known that there are no versions.
func (s *seen) none() bool { return errors.Is(s.err, fs.ErrNotExist) }

// has says whether a version is still the one that is kept. Where nobody knows, what
// there was goes on.
func (s *seen) has(v *held) bool {
	if s == nil || s.model != v.model {
		return false
	}
	files, is := s.files[v.Version]
	return is && files == v.files || s.err != nil && !s.none()
}

// compare has the versions kept that there are, and no others. One whose files have
// changed, or whose model is another, is another. All that go are gone before others
// begin.
func (h *Host) compare(ctx context.Context, all *errgroup.Group, models []ModelConfig) {
	there := map[string]*seen{}
	for _, m := range models {
		there[m.Name] = see(m)
	}
	for _, v := range h.forget(there) {
		<-v.gone
	}
	for _, m := range models {
		s := there[m.Name]
		switch {
		case s.none(), s.err != nil && !h.keeps(m.Name):
			h.refuse(id{m.Name, 0}, s.err)
		case s.err != nil:
			h.opts.Log.Warn("nobody knows which versions there are", "model", m.Name, "why", s.err.Error())
		}
		for _, v := range s.versions {
			h.begin(ctx, all, v, s.files[v.Number])
		}
	}
}

// forget has those versions end that are not there any more, and returns them.
func (h *Host) forget(there map[string]*seen) (gone []*held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for of, v := range h.versions {
		s := there[of.name]
		switch {
		case of.number == 0 && (s == nil || s.err == nil): // it has versions now, or is no model any more
			delete(h.versions, of)
			h.tell()
		case of.number != 0 && !s.has(v):
			v.forget()
			gone = append(gone, v)
		}
	}
	return gone
}

// keeps says whether a version of a model is kept.
func (h *Host) keeps(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for of := range h.versions {
		if of.name == name && of.number != 0 {
			return true
		}
	}
	return false
}

// refuse notes that a model has no versions, once.
func (h *Host) refuse(of id, why error) {
	h.mu.Lock()
	v := h.versions[of]
	h.mu.Unlock()
	if v == nil || v.Why != why.Error() {
		h.set(of, Refused, why)
	}
}

// begin has a version kept until it is forgotten, unless it is kept already.
func (h *Host) begin(ctx context.Context, all *errgroup.Group, v Version, files string) {
	of := id{v.Model.Name, v.Number}
	h.mu.Lock()
	_, is := h.versions[of]
	h.mu.Unlock()
	if is {
		return
	}
	keeping, forget := context.WithCancel(ctx)
	kept := h.set(of, Waiting, nil)
	kept.model, kept.files, kept.forget, kept.gone = v.Model, files, forget, make(chan struct{})
	all.Go(func() error {
		defer forget()
		h.keep(keeping, v)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.versions, of)
		h.tell()
		h.opts.Log.Info("model", "model", of.name, "version", of.number, "state", "gone")
		close(kept.gone)
		return nil
	})
}
