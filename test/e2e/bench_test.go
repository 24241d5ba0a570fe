//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) { h.fleet(b, n, "").bench(b) })
	}
}

// BenchmarkOlder is BenchmarkApply of an older version of ovsactl with its own
// images, whose checkout OVSA_BENCH_BASE names.
func BenchmarkOlder(b *testing.B) {
	h := openLab(b).older(b)
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) { h.fleet(b, n, "").bench(b) })
	}
}

// BenchmarkVariant is BenchmarkApply of one role that differs in what it boots
// with.
func BenchmarkVariant(b *testing.B) {
	h := openLab(b)
	for name, extra := range map[string]string{
		"UEFI_without_vTPM":   `vtpm { model = "none" }`,
		"kernel_with_vTPM":    `firmware = "kernel"`,
		"kernel_without_vTPM": "firmware = \"kernel\"\n  vtpm { model = \"none\" }",
	} {
		b.Run(name, func(b *testing.B) { h.fleet(b, 1, extra).bench(b) })
	}
}

// BenchmarkQuickstart is the example that a newcomer applies first, with its
// components, by this version and by the older one.
func BenchmarkQuickstart(b *testing.B) {
	h := openLab(b)
	b.Run("this", h.quickstart)
	b.Run("older", func(b *testing.B) { h.older(b).quickstart(b) })
}

// older is the host with the version of ovsactl to compare with.
func (h *host) older(b *testing.B) *host {
	b.Helper()
	dir := os.Getenv("OVSA_BENCH_BASE")
	if dir == "" {
		b.Skip("there is no OVSA_BENCH_BASE, a checkout of an older version in which `make package` was run")
	}
	older := *h
	older.program = filepath.Join(dir, "bin", "ovsactl")
	return &older
}

func (h *host) quickstart(b *testing.B) {
	text, err := os.ReadFile("../../examples/quickstart.hcl")
	if err != nil {
		b.Fatal(err)
	}
	const auto = `accel    = "auto"`
	if !strings.Contains(string(text), auto) {
		b.Fatalf("no %s in the example", auto)
	}
	file := h.write(b, "quickstart.hcl", strings.Replace(string(text), auto, fmt.Sprintf("accel    = %q", h.accelerator(b)), 1))
	if r := h.outside(b, "image", "build", file); r.code != 0 {
		b.Fatalf("image build: %v", r)
	}
	f := &fleet{host: h, file: file, roles: []string{"isv_dev", "runtime"}}
	sum := make(metrics)
	for b.Loop() {
		sum.add(f.apply(b))
		h.must(b, "destroy", file, "--auto-approve")
	}
	sum.report(b)
}

// accelerator is what guests have here. Manifests name it: to find it out, once
// for a machine, is none of what is measured.
func (h *host) accelerator(tb testing.TB) string {
	tb.Helper()
	type check struct {
		Lines []struct{ Name, Status string }
	}
	for _, line := range decode[check](tb, h.ovsactl(tb, "host", "check", "--data-dir", h.dataDir, "--json")).Lines {
		if line.Name == "KVM" && line.Status == "ok" {
			return "kvm"
		}
	}
	return "tcg"
}

// bench applies, boots the same guests plainly and destroys them.
func (f *fleet) bench(b *testing.B) {
	if r := f.outside(b, "image", "build", f.file); r.code != 0 {
		b.Fatalf("image build: %v", r)
	}
	sum := make(metrics)
	for b.Loop() {
		sum.add(f.apply(b))
		sum.add(f.plain(b))
		f.must(b, "destroy", f.file, "--auto-approve")
	}
	sum.report(b)
}

// report gives the means.
func (m metrics) report(b *testing.B) {
	for unit, v := range m {
		b.ReportMetric(v/float64(b.N), unit)
	}
	b.ReportMetric(0, "ns/op") // of all that was done
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

// fleet makes the manifest of n such roles; extra is more of each one's block.
func (h *host) fleet(tb testing.TB, n int, extra string) *fleet {
	tb.Helper()
	f := &fleet{host: h}
	var text strings.Builder
	fmt.Fprintf(&text, "host \"local\" {\n  data_dir = %q\n  accel = %q\n}\n\nimage \"debian\" {\n  build { suite = \"trixie\" }\n}\n", h.dataDir, h.accelerator(tb))
	for i := range n {
		f.roles = append(f.roles, fmt.Sprintf("bench%d", i))
		fmt.Fprintf(&text, `
role "bench%d" {
  image  = image.debian
  cpus   = 1
  memory = "1GiB"
  disk   = "4GiB"
  network "default" { address = %q }
  %s
}
`, i, address(i), extra)
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
