package provision_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// TestDieAnywhere kills a run before and after the effect of every single call
// it makes, and lets the next run converge.
func TestDieAnywhere(t *testing.T) {
	edits := []struct {
		name string
		edit func(*roles.Manifest)
	}{
		{"create", nil}, // from an empty host
		{"restart", func(m *roles.Manifest) { m.Roles[0].CPUs, m.Roles[1].CPUs = 3, 3 }},
		{"replace", func(m *roles.Manifest) { m.Roles[0].Image = "noble"; m.Roles[1].SSHUser = "admin" }},
		{"enrol", enrolled},
		{"enrol, replace", func(m *roles.Manifest) { enrolled(m); m.Roles[0].Image, m.Roles[1].Image = "noble", "debian" }},
	}
	for _, tt := range edits {
		t.Run(tt.name, func(t *testing.T) {
			deaths := 0
			for at := 1; at < 1000; at++ {
				if !dieAndConverge(t, at, tt.edit) {
					break
				}
				deaths++
			}
			t.Logf("died at each of %d calls", deaths)
			if deaths < 30 {
				t.Errorf("only %d calls to die at", deaths)
			}
		})
	}
}

// dieAndConverge reports whether the run died, or was over before its time.
func dieAndConverge(t *testing.T, at int, edit func(*roles.Manifest)) bool {
	w := newWorld(t)
	m := manifest(t, w, nil)
	if edit != nil {
		if _, _, err := apply(w.life(t.Context(), 0), w.engine(), m); err != nil {
			t.Fatal(err)
		}
		m = manifest(t, w, edit)
	}
	_, _, err := apply(w.life(t.Context(), at), w.engine(), m)
	died := err != nil
	ctx := w.life(t.Context(), 0)
	where := fmt.Sprintf("after death at call %d", at)
	if _, report, err := apply(ctx, w.engine(), m); err != nil {
		t.Fatalf("%s: apply: %v: %+v", where, err, report)
	}
	converged(t, ctx, w, m, where)
	return died
}

func converged(t *testing.T, ctx context.Context, w *world, m *roles.Manifest, where string) {
	t.Helper()
	p, _, err := apply(ctx, w.engine(), m)
	if err != nil || p.Changed() {
		t.Fatalf("%s: not converged: %+v, %v", where, p.Roles, err)
	}
	if err := destroy(ctx, w.engine(), m); err != nil {
		t.Fatalf("%s: destroy: %v", where, err)
	}
	if left := w.left(t); len(left) > 0 {
		t.Fatalf("%s: destroy left %q", where, left)
	}
}

// TestDestroyFromAnywhere kills a run at every call and destroys at once.
func TestDestroyFromAnywhere(t *testing.T) {
	for at := 1; at < 1000; at++ {
		w := newWorld(t)
		m := manifest(t, w, nil)
		_, _, died := apply(w.life(t.Context(), at), w.engine(), m)
		ctx := w.life(t.Context(), 0)
		if err := destroy(ctx, w.engine(), m); err != nil {
			t.Fatalf("after death at call %d: %v", at, err)
		}
		if left := w.left(t); len(left) > 0 {
			t.Fatalf("after death at call %d: destroy left %q", at, left)
		}
		if died == nil {
			return
		}
	}
}

// TestRoleThatNobodyWantsAnyMore: a run dies, and the role that it was making is
// taken out of the manifest.
func TestRoleThatNobodyWantsAnyMore(t *testing.T) {
	for at := 1; at < 25; at++ {
		w := newWorld(t)
		both := manifest(t, w, nil)
		if _, _, err := apply(w.life(t.Context(), at), w.engine(), both); err == nil {
			t.Fatal("it did not die")
		}
		ctx := w.life(t.Context(), 0)
		one := manifest(t, w, func(m *roles.Manifest) { m.Roles = m.Roles[:1] })
		if _, _, err := apply(ctx, w.engine(), one); err != nil {
			t.Fatal(err)
		}
		if s, err := w.host.Inspect(ctx, "ovsa_runtime"); err != nil {
			t.Fatal(err)
		} else if s.Exists {
			continue // an orphan, which plans name
		}
		if left := w.left(t); slices.Contains(left, "volume ovsa/ovsa_runtime_vm_disk.qcow2") {
			t.Errorf("after death at call %d: left %q", at, left)
		}
	}
}

// TestChangedPortIsNotForgotten: a port changes together with what needs a
// restart, and the run dies anywhere.
func TestChangedPortIsNotForgotten(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t)
		if _, _, err := apply(w.life(t.Context(), 0), w.engine(), manifest(t, w, nil)); err != nil {
			t.Fatal(err)
		}
		m := manifest(t, w, func(m *roles.Manifest) { m.Roles[0].CPUs, m.Roles[0].Components[0].Port = 3, 5000 })
		_, _, died := apply(w.life(t.Context(), at), w.engine(), m)
		ctx := w.life(t.Context(), 0)
		if _, _, err := apply(ctx, w.engine(), m); err != nil {
			t.Fatalf("after death at call %d: %v", at, err)
		}
		if !slices.ContainsFunc(w.guests["192.168.122.20"], func(line string) bool { return strings.Contains(line, "port=5000") }) {
			t.Errorf("after death at call %d: the installer was never told the port", at)
		}
		if p, err := w.engine().Plan(ctx, m, provision.PlanOptions{}); err != nil || p.Changed() {
			t.Errorf("after death at call %d: not converged: %v", at, err)
		}
		if died == nil {
			return
		}
	}
}

// TestSecondRunWaits: two runs at once, one after the other.
func TestSecondRunWaits(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	release, err := w.engine().Lock(ctx, "pid 1 (first)", nil)
	if err != nil {
		t.Fatal(err)
	}
	waits, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		release, err := w.engine().Lock(ctx, "pid 2 (second)", func(b *lock.Busy) { waits <- b.Holder })
		if err == nil {
			release()
		}
		ended <- err
	}()
	if got := <-waits; got != "pid 1 (first)" {
		t.Errorf("it waits for %q", got)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
