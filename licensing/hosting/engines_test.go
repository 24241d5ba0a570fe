package hosting_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// engines are started one after another, and do nothing.
type engines struct {
	mu       sync.Mutex
	started  []string // what each saw
	starting func()   // while one is started; may be nil
	unserved string   // the model that they cannot use
	last     *engine
}

type engine struct {
	*engines
	ended chan struct{}
	stop  func()
}

func (e *engines) Start(_ context.Context, models []hosting.Shown) (hosting.Instance, error) {
	var names []string
	for _, m := range models {
		names = append(names, fmt.Sprintf("%s/%d%s", m.Name, m.Number, m.Engine))
	}
	e.mu.Lock()
	e.started = append(e.started, strings.Join(names, " "))
	starting := e.starting
	e.starting = nil
	e.mu.Unlock()
	if starting != nil {
		starting()
	}
	i := &engine{engines: e, ended: make(chan struct{})}
	i.stop = sync.OnceFunc(func() { close(i.ended) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = i
	return i, nil
}

func (i *engine) Ready(context.Context) error { return nil }
func (i *engine) Serves(_ context.Context, name string, _ int64) error {
	if name == i.unserved {
		return errors.New("no layer of that name")
	}
	return nil
}
func (i *engine) Hide(string, int64)     {}
func (i *engine) Stop()                  { i.stop() }
func (i *engine) Ended() <-chan struct{} { return i.ended }
func (i *engine) Err() error             { return errors.New("stopped") }

func (e *engines) saw() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.started)
}

// serve serves a version of each model with engines that do nothing.
func (w *world) serve(e *engines, models ...string) {
	t := w.t
	t.Helper()
	var configs []hosting.ModelConfig
	for _, name := range models {
		base := t.TempDir()
		if err := os.Mkdir(filepath.Join(base, "1"), 0o700); err != nil {
			t.Fatal(err)
		}
		configs = append(configs, hosting.ModelConfig{Name: name, BasePath: base, Stem: "face"})
	}
	w.run(hosting.Options{
		Models: configs, Licensor: w.licensor, Engine: e, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Again: 10 * time.Millisecond, MaxAgain: 20 * time.Millisecond, Look: time.Minute, Settle: 2 * time.Second,
	})
}

// A model that may not be used any more while an engine is started with it: that
// engine is ended.
func TestTakenAwayDuringAStart(t *testing.T) {
	e := new(engines)
	w := newWorld(t)
	e.starting = func() {
		w.refuse("a/1", errors.New("revoked"))
		w.until("a/1 refused, b/1 licensed, engine starting")
	}
	w.serve(e, "a", "b")
	w.until("a/1 refused, b/1 ready, engine ready")
	if got := e.saw(); !slices.Equal(got, []string{"a/1 b/1", "b/1"}) {
		t.Errorf("engines saw %q", got)
	}
}

// One that goes when another comes: there are as many, and they are others.
func TestExchanged(t *testing.T) {
	e := new(engines)
	w := newWorld(t)
	w.refused["b/1"] = errors.New("exhausted")
	w.serve(e, "a", "b")
	w.until("a/1 ready, b/1 refused, engine ready")
	w.mu.Lock() // both at once
	w.refused["a/1"], w.refused["b/1"] = errors.New("revoked"), nil
	w.over["a/1"] <- w.refused["a/1"]
	w.mu.Unlock()
	w.until("a/1 refused, b/1 ready, engine ready")
	if got := e.saw(); got[0] != "a/1" || got[len(got)-1] != "b/1" {
		t.Errorf("engines saw %q", got)
	}
}

// A model that an engine cannot use says why, and the others are served.
func TestUnserved(t *testing.T) {
	e := &engines{unserved: "b"}
	w := newWorld(t)
	w.serve(e, "a", "b")
	w.until("a/1 ready, b/1 failed, engine ready")
	if models, _ := w.host.Status(); models[1].Why != "no layer of that name" {
		t.Errorf("%+v", models[1])
	}
	w.refuse("b/1", errors.New("revoked"))
	w.until("a/1 ready, b/1 refused, engine ready")
}
