package dag_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ovsactl/ovsactl/internal/dag"
)

func TestWalk(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name  string
		edges map[string][]string // node: what it comes after
		fail  string
		ran   []string
		skip  []string
	}{
		{"a chain runs in order", map[string][]string{"a": nil, "b": {"a"}, "c": {"b"}}, "", []string{"a", "b", "c"}, nil},
		{"a failure skips what follows, all the way", map[string][]string{"a": nil, "b": {"a"}, "c": {"b"}}, "a", []string{"a"}, []string{"b", "c"}},
		{"the other branch finishes", map[string][]string{"a": nil, "b": {"a"}, "x": nil, "y": {"x"}}, "a", []string{"a", "x", "y"}, []string{"b"}},
		{"a diamond joins", map[string][]string{"a": nil, "b": {"a"}, "c": {"a"}, "d": {"b", "c"}}, "", []string{"a", "b", "c", "d"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var ran []string
			var nodes []dag.Node
			for id, after := range tt.edges {
				nodes = append(nodes, dag.Node{ID: id, After: after, Run: func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					for _, a := range after {
						if !slices.Contains(ran, a) {
							t.Errorf("%s ran before %s", id, a)
						}
					}
					ran = append(ran, id)
					if id == tt.fail {
						return broken
					}
					return nil
				}})
			}
			errs, err := dag.Walk(t.Context(), nodes, 4)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(ran)
			if !slices.Equal(ran, tt.ran) {
				t.Errorf("ran %v, want %v", ran, tt.ran)
			}
			for id, err := range errs {
				if got, want := errors.Is(err, dag.ErrSkipped), slices.Contains(tt.skip, id); got != want {
					t.Errorf("%s: %v, skipped should be %v", id, err, want)
				}
			}
		})
	}
}

// A node behind another runs after it, and also when that failed or was skipped.
func TestWalkBehind(t *testing.T) {
	for _, broken := range []string{"", "a", "b"} {
		var ran []string
		node := func(id string, after, behind []string) dag.Node {
			return dag.Node{ID: id, After: after, Behind: behind, Run: func(context.Context) error {
				ran = append(ran, id) // one at a time
				if id == broken {
					return errors.New("broken")
				}
				return nil
			}}
		}
		errs, err := dag.Walk(t.Context(), []dag.Node{node("c", nil, []string{"b"}), node("b", []string{"a"}, nil), node("a", nil, nil)}, 1)
		if err != nil || errs["c"] != nil || ran[len(ran)-1] != "c" {
			t.Errorf("%q broken: ran %q, %v, %v", broken, ran, errs, err)
		}
	}
}

func TestWalkIsBounded(t *testing.T) {
	var now, most atomic.Int32
	var nodes []dag.Node
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		nodes = append(nodes, dag.Node{ID: id, Run: func(context.Context) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			now.Add(-1)
			return nil
		}})
	}
	if _, err := dag.Walk(t.Context(), nodes, 2); err != nil {
		t.Fatal(err)
	}
	if most.Load() > 2 {
		t.Errorf("%d ran at once, want at most 2", most.Load())
	}
}

func TestWalkStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	nodes := []dag.Node{
		{ID: "a", Run: func(context.Context) error { cancel(); return nil }},
		{ID: "b", After: []string{"a"}, Run: func(context.Context) error { t.Error("b ran"); return nil }},
	}
	errs, err := dag.Walk(ctx, nodes, 1)
	if err != nil || errs["a"] != nil || !errors.Is(errs["b"], context.Canceled) {
		t.Errorf("got %v, %v", errs, err)
	}
}

func TestWalkRefusesBadGraphs(t *testing.T) {
	run := func(context.Context) error { return nil }
	for name, nodes := range map[string][]dag.Node{
		"cycle":   {{ID: "a", After: []string{"b"}, Run: run}, {ID: "b", After: []string{"a"}, Run: run}},
		"unknown": {{ID: "a", After: []string{"z"}, Run: run}},
		"behind":  {{ID: "a", Behind: []string{"b"}, Run: run}, {ID: "b", After: []string{"a"}, Run: run}},
		"nobody":  {{ID: "a", Behind: []string{"z"}, Run: run}},
		"twice":   {{ID: "a", Run: run}, {ID: "a", Run: run}},
	} {
		if _, err := dag.Walk(t.Context(), nodes, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
