package hosting_test

import (
	"errors"
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

// configuration is one that changes while it is used.
type configuration struct {
	mu     sync.Mutex
	models []hosting.ModelConfig
	err    error
}

func (c *configuration) get() ([]hosting.ModelConfig, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.models), c.err
}

func (c *configuration) set(err error, models ...hosting.ModelConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.models, c.err = models, err
}

// aModel has versions.
func aModel(t *testing.T, name string, versions ...string) hosting.ModelConfig {
	t.Helper()
	base := t.TempDir()
	for _, v := range versions {
		if err := os.Mkdir(filepath.Join(base, v), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return hosting.ModelConfig{Name: name, BasePath: base, Stem: "face", KeyStore: "/keystore"}
}

// configured serves what a configuration says, which is looked at when somebody wants
// that, and no more.
func configured(t *testing.T, models ...hosting.ModelConfig) (*world, *engines, *configuration) {
	t.Helper()
	e, c, w := new(engines), new(configuration), newWorld(t)
	c.set(nil, models...)
	w.run(hosting.Options{
		Models: models, Config: c.get, Licensor: w.licensor, Engine: e, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Again: 10 * time.Millisecond, MaxAgain: 20 * time.Millisecond, Look: time.Hour, Settle: 2 * time.Second,
	})
	return w, e, c
}

func (w *world) acquired() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.got, " ")
}

// Another configuration: models that are gone stop, new ones begin, one that is
// another under its name does both, and one that is as it was notices nothing.
func TestAnotherConfiguration(t *testing.T) {
	a, b, c, d := aModel(t, "a", "1"), aModel(t, "b", "1"), aModel(t, "c", "1", "2"), aModel(t, "d", "1")
	none := aModel(t, "none")
	w, e, config := configured(t, a, b, c, none)
	w.until("a/1 ready, b/1 ready, c/2 ready, c/1 ready, none/0 refused, engine ready")
	other := c
	other.KeyStore = "/another"
	config.set(nil, a, other, d)
	w.host.Look(t.Context())
	w.until("a/1 ready, c/2 ready, c/1 ready, d/1 ready, engine ready")
	got := strings.Fields(w.acquired())
	for name, want := range map[string]int{"a/1": 1, "b/1": 1, "c/1": 2, "c/2": 2, "d/1": 1} {
		if n := strings.Count(strings.Join(got, " "), name); n != want {
			t.Errorf("%s was acquired %d times, want %d", name, n, want)
		}
	}
	if saw := e.saw(); saw[0] != "a/1 b/1 c/2 c/1" || saw[len(saw)-1] != "a/1 c/2 c/1 d/1" {
		t.Errorf("engines saw %q", saw)
	}
	if s := w.host.Config(); s.Models != 3 || s.Why != "" {
		t.Errorf("%+v", s)
	}
	w.mu.Lock()
	if w.closed != 3 {
		t.Errorf("%d keys are wiped, want 3", w.closed)
	}
	w.mu.Unlock()

	// The same again: nobody notices anything.
	starts := len(e.saw())
	w.host.Look(t.Context())
	if n := len(e.saw()); n != starts {
		t.Errorf("%d more engines were started", n-starts)
	}
	if n := len(strings.Fields(w.acquired())); n != len(got) {
		t.Errorf("%d more versions were acquired", n-len(got))
	}
}

// A wrong configuration changes nothing, and says so once; a right one is used.
func TestRefusedConfiguration(t *testing.T) {
	a, b := aModel(t, "a", "1"), aModel(t, "b", "1")
	w, e, config := configured(t, a)
	w.until("a/1 ready, engine ready")
	config.set(errors.New("is no JSON"))
	w.host.Look(t.Context())
	w.host.Look(t.Context())
	w.until("a/1 ready, engine ready")
	if s := w.host.Config(); s.Why != "is no JSON" || s.Models != 1 {
		t.Errorf("%+v", s)
	}
	if n := strings.Count(w.log.String(), "the configuration is refused: what was in use stays"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if saw := e.saw(); len(saw) != 1 {
		t.Errorf("engines saw %q", saw)
	}
	// Versions of what is in use are looked for on.
	if err := os.Mkdir(filepath.Join(a.BasePath, "2"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.host.Look(t.Context())
	w.until("a/2 ready, a/1 ready, engine ready")

	config.set(nil, b)
	w.host.Look(t.Context())
	w.until("b/1 ready, engine ready")
	if s := w.host.Config(); s.Why != "" || s.Models != 1 {
		t.Errorf("%+v", s)
	}
}

// A model is taken out while it is being proven, refused, and while an engine is
// started with it.
func TestTakenOut(t *testing.T) {
	a, slow, bad := aModel(t, "a", "1"), aModel(t, "slow", "1"), aModel(t, "bad", "1")
	e, config, w := new(engines), new(configuration), newWorld(t)
	config.set(nil, a, slow, bad)
	w.refused["bad/1"] = errors.New("exhausted")
	starting := make(chan struct{})
	e.starting = func() {
		config.set(nil, slow, bad)
		go func() {
			w.host.Look(t.Context())
			close(starting)
		}()
		<-starting
	}
	w.run(hosting.Options{
		Models: []hosting.ModelConfig{a, slow, bad}, Config: config.get, Licensor: w.licensor, Engine: e, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Again: 10 * time.Millisecond, MaxAgain: 20 * time.Millisecond, Look: time.Hour, Settle: 50 * time.Millisecond,
	})
	w.until("bad/1 refused, slow/1 proving, engine waiting")
	if saw := e.saw(); !slices.Equal(saw, []string{"a/1"}) {
		t.Errorf("engines saw %q", saw)
	}
	config.set(nil, a)
	w.host.Look(t.Context())
	w.until("a/1 ready, engine ready")
}

// A directory in which nobody may look is said of a model that has no versions yet,
// and takes nothing away from one that has.
func TestUnreadableVersions(t *testing.T) {
	a := aModel(t, "a", "1")
	w, _, config := configured(t, a)
	w.until("a/1 ready, engine ready")
	moved := a.BasePath + ".moved"
	if err := os.Rename(a.BasePath, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.BasePath, nil, 0o600); err != nil { // no directory
		t.Fatal(err)
	}
	file := hosting.ModelConfig{Name: "file", BasePath: a.BasePath, Stem: "face"}
	config.set(nil, a, file)
	w.host.Look(t.Context())
	w.until("a/1 ready, file/0 refused, engine ready")
	if models, _ := w.host.Status(); !strings.Contains(models[1].Why, "not a directory") {
		t.Errorf("%+v", models[1])
	}
	if err := errors.Join(os.Remove(a.BasePath), os.Rename(moved, a.BasePath)); err != nil {
		t.Fatal(err)
	}
	w.host.Look(t.Context())
	w.until("a/1 ready, file/1 ready, engine ready")
	if got := w.acquired(); got != "a/1 file/1" {
		t.Errorf("acquired: %s", got)
	}
}
