package inference_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/testlog"
)

func TestTypes(t *testing.T) {
	for typ, want := range map[inference.Type]string{
		inference.Bool: "BOOL 1", inference.Uint16: "UINT16 2", inference.Int64: "INT64 8", inference.Float16: "FP16 2",
		inference.BFloat16: "BF16 2", inference.Float32: "FP32 4", inference.Float64: "FP64 8", inference.Bytes: "BYTES 0",
	} {
		if got := fmt.Sprint(typ, typ.Size()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if again, err := inference.ParseType(typ.String()); err != nil || again != typ {
			t.Errorf("%s is parsed as %v (%v)", typ, again, err)
		}
	}
	for _, name := range []string{"", "fp32", "FP8", "BYTES "} {
		if typ, err := inference.ParseType(name); !errors.Is(err, inference.ErrInvalid) {
			t.Errorf("%q is %v (%v)", name, typ, err)
		}
	}
}

func TestTensors(t *testing.T) {
	texts := inference.AppendText(inference.AppendText(nil, []byte("one")), nil)
	for name, c := range map[string]struct {
		inference.Tensor
		wrong string // a part of what is said; "" where it is right
	}{
		"right":             {inference.Tensor{Type: inference.Float32, Shape: []int64{2, 3}, Data: make([]byte, 24)}, ""},
		"a number":          {inference.Tensor{Type: inference.Float64, Data: make([]byte, 8)}, ""},
		"none":              {inference.Tensor{Type: inference.Float64, Shape: []int64{0, 3}}, ""},
		"texts":             {inference.Tensor{Type: inference.Bytes, Shape: []int64{2}, Data: texts}, ""},
		"short":             {inference.Tensor{Type: inference.Float32, Shape: []int64{2, 3}, Data: make([]byte, 23)}, "takes 24"},
		"long":              {inference.Tensor{Type: inference.Float32, Shape: []int64{2, 3}, Data: make([]byte, 25)}, "takes 24"},
		"negative":          {inference.Tensor{Type: inference.Int8, Shape: []int64{-1, -1}, Data: []byte{1}}, "negative"},
		"a shape too large": {inference.Tensor{Type: inference.Float64, Shape: []int64{1 << 31, 1 << 30}, Data: nil}, "too many"},
		"one that is 0":     {inference.Tensor{Type: inference.Uint8, Shape: []int64{1 << 32, 1 << 32}, Data: nil}, "too many"},
		"no type":           {inference.Tensor{Shape: []int64{1}, Data: []byte{1}}, "no type"},
		"a text too few":    {inference.Tensor{Type: inference.Bytes, Shape: []int64{3}, Data: texts}, "less than 3"},
		"a text too many":   {inference.Tensor{Type: inference.Bytes, Shape: []int64{1}, Data: texts}, "more than 1"},
		"a text cut":        {inference.Tensor{Type: inference.Bytes, Shape: []int64{1}, Data: texts[:6]}, "cut"},
		"a length cut":      {inference.Tensor{Type: inference.Bytes, Shape: []int64{2}, Data: texts[:9]}, "less than 2"},
		"texts without end": {inference.Tensor{Type: inference.Bytes, Shape: []int64{math.MaxInt64 / 8}, Data: texts}, "less than"},
	} {
		err := c.Check()
		if c.wrong == "" && err != nil || c.wrong != "" && (!errors.Is(err, inference.ErrInvalid) || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

func TestArrange(t *testing.T) {
	ports := []inference.Port{{Name: "a", Type: inference.Int32, Shape: []int64{-1, 2}}, {Name: "b", Type: inference.Uint8, Shape: []int64{1}}}
	a := inference.Tensor{Name: "a", Type: inference.Int32, Shape: []int64{1, 2}, Data: make([]byte, 8)}
	b := inference.Tensor{Name: "b", Type: inference.Uint8, Shape: []int64{1}, Data: []byte{7}}
	change := func(t inference.Tensor, f func(*inference.Tensor)) inference.Tensor { f(&t); return t }
	got, err := inference.Arrange(ports, []inference.Tensor{b, a})
	if err != nil || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("%v (%v)", got, err)
	}
	for name, c := range map[string]struct {
		given []inference.Tensor
		wrong string
	}{
		"one missing":       {[]inference.Tensor{a}, `input "b" is missing; the model's are ["a" "b"]`},
		"one unknown":       {[]inference.Tensor{a, b, change(b, func(t *inference.Tensor) { t.Name = "c" })}, `no input "c"`},
		"one twice":         {[]inference.Tensor{a, b, b}, `"b" is there twice`},
		"another type":      {[]inference.Tensor{a, change(b, func(t *inference.Tensor) { t.Type = inference.Int8 })}, "is of type UINT8, and was given INT8"},
		"other dimensions":  {[]inference.Tensor{a, change(b, func(t *inference.Tensor) { t.Shape = []int64{1, 1} })}, "has 1 dimensions"},
		"another size":      {[]inference.Tensor{change(a, func(t *inference.Tensor) { t.Shape = []int64{2, 1} }), b}, "has shape [-1 2], and was given [2 1]"},
		"not its own size":  {[]inference.Tensor{change(a, func(t *inference.Tensor) { t.Shape = []int64{2, 2} }), b}, "takes 16"},
		"a negative number": {[]inference.Tensor{change(a, func(t *inference.Tensor) { t.Shape = []int64{-1, 2} }), b}, "negative"},
	} {
		if _, err := inference.Arrange(ports, c.given); !errors.Is(err, inference.ErrInvalid) || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

func TestSelect(t *testing.T) {
	ports := []inference.Port{{Name: "a"}, {Name: "b"}}
	for _, c := range []struct{ wanted, want []string }{{nil, []string{"a", "b"}}, {[]string{"b"}, []string{"b"}}, {[]string{"b", "a"}, []string{"b", "a"}}} {
		if got, err := inference.Select(ports, c.wanted); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q gives %q (%v)", c.wanted, got, err)
		}
	}
	for _, wanted := range [][]string{{"c"}, {"a", "a"}} {
		if got, err := inference.Select(ports, wanted); !errors.Is(err, inference.ErrInvalid) {
			t.Errorf("%q gives %q (%v)", wanted, got, err)
		}
	}
}

// echo answers with what it was given. A directory with a file "broken" has none.
type echo struct {
	running, most atomic.Int64
	closed        atomic.Int64
	meet          chan struct{} // each run waits for one; nil for no waiting
}

func (e *echo) Name() string { return "echo 1" }

func (e *echo) Load(dir string) (inference.Model, error) {
	if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
		return nil, errors.New("it is broken")
	}
	return e, nil
}

func (e *echo) Inputs() []inference.Port {
	return []inference.Port{{Name: "x", Type: inference.Uint8, Shape: []int64{-1}}}
}
func (e *echo) Outputs() []inference.Port { return e.Inputs() }
func (e *echo) Close()                    { e.closed.Add(1) }

func (e *echo) Run(_ context.Context, inputs []inference.Tensor, _ []string) ([]inference.Tensor, error) {
	e.most.Store(max(e.most.Load(), e.running.Add(1)))
	defer e.running.Add(-1)
	if e.meet != nil {
		<-e.meet
	}
	if inputs[0].Data[0] == 0 {
		return nil, errors.New("nothing is wrong with it, and it failed")
	}
	return inputs, nil
}

// repository has versions NAME/NUMBER; those with a "!" behind are broken.
func repository(t *testing.T, e *echo, versions ...string) *inference.Repository {
	t.Helper()
	dir := t.TempDir()
	for _, v := range versions {
		path, broken := strings.CutSuffix(v, "!")
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
		if broken {
			if err := os.WriteFile(filepath.Join(dir, path, "broken"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := inference.Open(dir, e, slog.New(slog.NewTextHandler(new(testlog.Log), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRepository(t *testing.T) {
	e := new(echo)
	r := repository(t, e, "face/2", "face/10", "face/11!", "face/notes", "voice/1!", "empty")
	if got := r.Models(); !slices.Equal(got, []string{"face", "voice"}) {
		t.Errorf("the models are %q", got)
	}
	for _, c := range []struct {
		name    string
		number  int64
		version int64
		err     error // of the look-up
		use     error // of the version
	}{
		{name: "face", version: 10}, // the newest that is available
		{name: "face", number: 2, version: 2},
		{name: "face", number: 11, version: 11, use: inference.ErrUnavailable},
		{name: "face", number: 3, err: inference.ErrNotFound},
		{name: "voice", version: 1, use: inference.ErrUnavailable},
		{name: "empty", err: inference.ErrNotFound},
		{name: "none", err: inference.ErrNotFound},
	} {
		v, err := r.Version(c.name, c.number)
		if !errors.Is(err, c.err) || err == nil && v.Number != c.version {
			t.Errorf("%s/%d: %v, %v", c.name, c.number, v, err)
		}
		if err != nil {
			continue
		}
		one := inference.Tensor{Name: "x", Type: inference.Uint8, Shape: []int64{1}, Data: []byte{1}}
		if _, err := v.Infer(t.Context(), []inference.Tensor{one}, nil); !errors.Is(err, c.use) || c.use != nil && !strings.Contains(err.Error(), "it is broken") {
			t.Errorf("%s/%d: %v, want %v", c.name, c.number, err, c.use)
		}
	}
	r.Close()
	if n := e.closed.Load(); n != 2 {
		t.Errorf("%d models were closed", n)
	}
}

// As many run at the same time as there are cores; who does not wait any more is gone.
func TestTurns(t *testing.T) {
	e := &echo{meet: make(chan struct{})}
	v, err := repository(t, e, "face/1").Version("face", 0)
	if err != nil {
		t.Fatal(err)
	}
	const requests = 100
	ended := make(chan error, requests)
	for i := range requests {
		go func() {
			_, err := v.Infer(context.Background(), []inference.Tensor{{Name: "x", Type: inference.Uint8, Shape: []int64{1}, Data: []byte{byte(i)}}}, nil)
			ended <- err
		}()
	}
	for range 10 {
		e.meet <- struct{}{}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Infer(over, []inference.Tensor{{Name: "x", Type: inference.Uint8, Shape: []int64{1}, Data: []byte{1}}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait: %v", err)
	}
	go func() {
		for range requests - 10 {
			e.meet <- struct{}{}
		}
	}()
	failed := 0
	for range requests {
		if err := <-ended; err != nil {
			failed++
		}
	}
	s := v.Stats()
	if failed != 1 || s.Failed != 1 || s.Succeeded != requests-1 || s.Waiting == 0 || s.Running == 0 {
		t.Errorf("%d failed; %+v", failed, s)
	}
	if n := e.most.Load(); n > int64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%d ran at the same time", n)
	}
}
