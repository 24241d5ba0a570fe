//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/provision"
)

// BenchmarkApply makes guests of one of our images with apply, and then the same
// guests again with virsh alone: see fleet.plain. It is ready when it lets us in
// by SSH, in both.
//
// A phase's time is that of the role for which it took longest, and own-s is
// what the command took without the longest wait for a guest that boots.
func BenchmarkApply(b *testing.B) {
	h := openLab(b)
	// Whether KVM works is found out once for a machine, and remembered.
	h.ovsactl(b, "host", "check", "--data-dir", h.dataDir)
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) {
			f := h.fleet(b, n)
			sum := make(metrics)
			for b.Loop() {
				sum.add(f.apply(b))
				sum.add(f.plain(b))
				h.must(b, "destroy", f.file, "--auto-approve")
			}
			for unit, v := range sum {
				b.ReportMetric(v/float64(b.N), unit)
			}
			b.ReportMetric(0, "ns/op") // of both, and of the destroy
		})
	}
}

// metrics are figures by unit.
type metrics map[string]float64

func (m metrics) add(more metrics) {
	for unit, v := range more {
		m[unit] += v
	}
}

// longest keeps the greater one.
func (m metrics) longest(unit string, d time.Duration) { m[unit] = max(m[unit], d.Seconds()) }

// fleet is some roles that are alike.
type fleet struct {
	*host
	file  string
	roles []string
}

func (h *host) fleet(tb testing.TB, n int) *fleet {
	tb.Helper()
	f := &fleet{host: h}
	var text strings.Builder
	fmt.Fprintf(&text, "host \"local\" {\n  data_dir = %q\n}\n\nimage \"debian\" {\n  build { suite = \"trixie\" }\n}\n", h.dataDir)
	for i := range n {
		f.roles = append(f.roles, fmt.Sprintf("bench%d", i))
		fmt.Fprintf(&text, `
role "bench%d" {
  image  = image.debian
  cpus   = 1
  memory = "1GiB"
  disk   = "4GiB"
  network "default" { address = %q }
  vtpm {}
}
`, i, address(i))
	}
	f.file = h.write(tb, "fleet.hcl", text.String())
	return f
}

func address(i int) string { return fmt.Sprintf("192.168.122.%d", 40+i) }

// apply makes the guests, and reads what the run tells of itself.
func (f *fleet) apply(tb testing.TB) metrics {
	tb.Helper()
	r := f.must(tb, "apply", f.file, "--auto-approve", "--json", "--timeout", "20m")
	m := metrics{"apply-s": r.took.Seconds(), "emulated": 0}
	for _, line := range lines(r.stdout) {
		var e struct {
			Event string `json:"event"`
			provision.Report
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			tb.Fatalf("%v in %s", err, line)
		}
		if e.Event != "report" {
			m.observe(tb, line)
			continue
		}
		if len(e.Roles) != len(f.roles) {
			tb.Fatalf("a report of %d roles, want %d", len(e.Roles), len(f.roles))
		}
		for _, role := range e.Roles {
			for _, p := range role.Phases {
				m.longest(p.Name+"-s", p.Elapsed)
			}
		}
	}
	if m["reachable-s"] == 0 {
		tb.Fatalf("no guest was waited for: %v", r)
	}
	m["own-s"] = m["apply-s"] - m["reachable-s"]
	return m
}

// observe reads the event of a step that roles share.
func (m metrics) observe(tb testing.TB, line string) {
	tb.Helper()
	var e provision.Event
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		tb.Fatalf("%v in %s", err, line)
	}
	shared, _, found := strings.Cut(e.Step, ".")
	switch {
	case e.Kind == provision.Completed && found && shared != "role":
		m.longest(shared+"-s", e.Elapsed)
	case e.Kind == provision.Note && strings.HasPrefix(e.Text, "accelerator: tcg"):
		m["emulated"] = 1
	}
}
