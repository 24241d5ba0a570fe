package provision_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/provision"
)

// closedDoor is a way to guests in which one of them has no SSH.
type closedDoor struct {
	remoteSide
	shut netip.Addr
}

func (c closedDoor) Dial(ctx context.Context, addr netip.Addr, user string, keys []string) (provision.Guest, error) {
	if addr == c.shut {
		<-ctx.Done()
		return nil, fmt.Errorf("connect to %s: %w", addr, context.Cause(ctx))
	}
	return c.remoteSide.Dial(ctx, addr, user, keys)
}

// A guest that does not come up says in which phase, for how long it was waited
// and where to look; the other role is done, and a run after it was mended ends
// well.
func TestGuestThatNeverAnswers(t *testing.T) {
	for _, tt := range []struct {
		name string
		ill  func(*world, *provision.Engine) // the runtime's guest
	}{
		{"an image that never boots", func(w *world, _ *provision.Engine) {
			w.host.Silent = map[string]bool{"ovsa_runtime": true}
		}},
		{"SSH that never comes", func(w *world, e *provision.Engine) {
			e.Remote = closedDoor{remoteSide{w}, netip.MustParseAddr("192.168.122.30")}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			m := manifest(t, w, nil)
			e := w.engine()
			tt.ill(w, e)
			ctx := w.life(t.Context(), 0)
			p, err := e.Plan(ctx, m, provision.PlanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			report, err := e.Apply(ctx, p, provision.ApplyOptions{Timeout: time.Second})
			if !errors.Is(err, provision.ErrRoles) {
				t.Fatalf("error %v", err)
			}
			good, bad := report.Roles[0], report.Roles[1]
			if bad.Failed != "reachable" || !strings.Contains(bad.Error, "no answer within 1s") {
				t.Errorf("failed in %q: %s", bad.Failed, bad.Error)
			}
			for _, want := range []string{"ovsactl logs runtime", "ovsactl console runtime", "--timeout"} {
				if !strings.Contains(bad.Hint, want) {
					t.Errorf("the hint is without %q: %s", want, bad.Hint)
				}
			}
			if good.Failed != "" || !slices.ContainsFunc(good.Phases, func(p provision.Phase) bool { return p.Name == "verified" }) {
				t.Errorf("the other role: %+v", good)
			}
			w.host.Silent = nil
			if _, _, err := apply(ctx, w.engine(), m); err != nil {
				t.Errorf("after it was mended: %v", err)
			}
		})
	}
}
