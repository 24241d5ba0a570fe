package provision_test

import (
	"testing"
	"time"
)

// A guest that nobody of ours saw start has been up since its vTPM was bound.
func TestUptimeWithoutAMark(t *testing.T) {
	w := newWorld(t)
	m := manifest(t, w, nil)
	if _, _, err := apply(w.life(t.Context(), 0), w.engine(), m); err != nil {
		t.Fatal(err)
	}
	w.host.ForgetStart("ovsa_runtime")
	list, err := w.engine().Status(w.life(t.Context(), 0), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		want := time.Duration(0)
		if s.Domain == "ovsa_runtime" {
			want = time.Hour
		}
		if s.Uptime < want || s.Uptime > want+time.Minute {
			t.Errorf("%s: up for %s, want about %s", s.Role, s.Uptime, want)
		}
	}
}
