package provision_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// BenchmarkNoop is what a command costs that finds nothing to do, from the
// manifest's text to the end, on libvirt's test driver, with the record of a real
// vTPM to verify for each role:
//
//	list    what both have to do at least: connect, ask libvirt for each domain
//	create  plan, when there is no domain yet
//	plan    plan, when each role's guest runs
//	apply   lock, plan and apply, likewise
func BenchmarkNoop(b *testing.B) {
	tpm := newOneTPM(b)
	for _, n := range []int{1, 10, 100, 1000} {
		c := newCommand(b, n, tpm)
		name := func(what string) string { return fmt.Sprintf("%s/roles=%d", what, n) }
		b.Run(name("create"), func(b *testing.B) { measure(b, func() error { return c.plan(b.Context(), n) }) })
		clean := c.populate(b)
		b.Run(name("list"), func(b *testing.B) { measure(b, func() error { return c.list(b.Context()) }) })
		b.Run(name("plan"), func(b *testing.B) { measure(b, func() error { return c.plan(b.Context(), 0) }) })
		b.Run(name("apply"), func(b *testing.B) { measure(b, func() error { return c.apply(b.Context()) }) })
		clean()
	}
}

func measure(b *testing.B, do func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
}

// memoryOf tells a child of BenchmarkNoopMemory that it is one.
const memoryOf = "OVSA_BENCH_MEMORY_OF"

// BenchmarkNoopMemory is the most memory that a process had which did one apply
// of BenchmarkNoop. The driver's domains are in that process too, where a real
// host has them in libvirtd's.
func BenchmarkNoopMemory(b *testing.B) {
	if n, err := strconv.Atoi(os.Getenv(memoryOf)); err == nil {
		c := newCommand(b, n, newOneTPM(b))
		defer c.populate(b)()
		if err := c.apply(b.Context()); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("\n%s %d\n", memoryOf, residentPeak(b))
		return
	}
	for _, n := range []int{1, 10, 100, 1000} {
		var peak float64 // however often it is asked for: most of the time makes the domains
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) {
			if peak == 0 {
				peak = childPeak(b, n)
			}
			b.ReportMetric(peak, "peak-B")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// childPeak runs BenchmarkNoopMemory for n roles in a process of its own.
func childPeak(b *testing.B, n int) float64 {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkNoopMemory$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", memoryOf, n))
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, memoryOf+" "); ok {
			peak, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				b.Fatal(err)
			}
			return peak
		}
	}
	b.Fatalf("the child did not tell: %s", out)
	return 0
}

// residentPeak is this process's own, in bytes. What getrusage tells begins with
// that of the process which started this one.
func residentPeak(tb testing.TB) int64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for scan := bufio.NewScanner(bytes.NewReader(status)); scan.Scan(); {
		if text, ok := strings.CutPrefix(scan.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib << 10
		}
	}
	tb.Fatal("no VmHWM in /proc/self/status")
	return 0
}

// command is ovsactl on a manifest of many roles, without its command line.
type command struct {
	source  map[string][]byte
	dataDir string
	tpm     provision.TPMHost
}

func newCommand(tb testing.TB, n int, tpm provision.TPMHost) command {
	tb.Helper()
	dataDir := tb.TempDir()
	return command{map[string][]byte{"many.hcl": manyText(n, "test:///default", dataDir)}, dataDir, tpm}
}

// oneTPM is a host whose every guest has the same vTPM, bound to its host's.
type oneTPM struct{ *vtpm.Host }

var oneID = vtpm.Identity{UUID: "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11", Name: "ovsa_one"}

func (t oneTPM) Status(ctx context.Context, _ string) (vtpm.Status, error) {
	return t.Host.Status(ctx, oneID.UUID)
}

// newOneTPM makes the vTPM, and a host as each new process opens it.
func newOneTPM(tb testing.TB) oneTPM {
	tb.Helper()
	host := vtpmtest.New(tb).Open(tb)
	if err := errors.Join(host.Manufacture(tb.Context(), oneID), host.Bind(tb.Context(), oneID)); err != nil {
		tb.Fatal(err)
	}
	return oneTPM{host}
}

// populate makes the guests as a finished apply leaves them. The test driver has
// one host for a process, as long as somebody is connected to it: until clean is
// called.
func (c command) populate(tb testing.TB) (clean func()) {
	tb.Helper()
	m := c.load(tb)
	host, err := vm.Open(tb.Context(), m.Host.URI, vm.Options{DataDir: c.dataDir})
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range m.Roles {
		if err := errors.Join(host.Define(tb.Context(), settled(m, r)), host.Start(tb.Context(), provision.DomainName(r.Name))); err != nil {
			tb.Fatal(err)
		}
	}
	return func() {
		for _, r := range m.Roles {
			if err := host.Undefine(tb.Context(), provision.DomainName(r.Name)); err != nil {
				tb.Fatal(err)
			}
		}
		host.Close()
	}
}

func (c command) load(tb testing.TB) *roles.Manifest {
	tb.Helper()
	m, err := c.parse()
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func (c command) parse() (*roles.Manifest, error) {
	m, _, diags := roles.Load([]string{"many.hcl"}, roles.Options{Getenv: func(string) string { return "" }, Sources: c.source})
	if diags.HasErrors() {
		return nil, diags
	}
	return m, nil
}

// open connects to the manifest's host.
func (c command) open(ctx context.Context) (*roles.Manifest, *provision.Engine, *vm.Host, error) {
	m, err := c.parse()
	if err != nil {
		return nil, nil, nil, err
	}
	host, err := vm.Open(ctx, m.Host.URI, vm.Options{DataDir: c.dataDir})
	if err != nil {
		return nil, nil, nil, err
	}
	return m, &provision.Engine{Hypervisor: host, TPM: c.tpm, Images: steady{}, DataDir: c.dataDir}, host, nil
}

// list is the least that a plan does.
func (c command) list(ctx context.Context) error {
	host, err := vm.Open(ctx, "test:///default", vm.Options{DataDir: c.dataDir})
	if err != nil {
		return err
	}
	defer host.Close()
	_, err = host.Domains(ctx)
	return err
}

func (c command) plan(ctx context.Context, changes int) error {
	m, engine, host, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	_, err = planned(ctx, engine, m, changes)
	return err
}

func (c command) apply(ctx context.Context) error {
	m, engine, host, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	release, err := engine.Lock(ctx, "benchmark", nil)
	if err != nil {
		return err
	}
	defer release()
	p, err := planned(ctx, engine, m, 0)
	if err != nil {
		return err
	}
	_, err = engine.Apply(ctx, p, provision.ApplyOptions{})
	return err
}

// planned plans, and refuses a plan that is not the expected one.
func planned(ctx context.Context, engine *provision.Engine, m *roles.Manifest, changes int) (*provision.Plan, error) {
	p, err := engine.Plan(ctx, m, provision.PlanOptions{})
	if err != nil {
		return nil, err
	}
	if got := p.Count(provision.Create); got != changes || p.Changed() != (changes > 0) {
		return nil, fmt.Errorf("%d roles to create, want %d: %+v", got, changes, p.Roles[0])
	}
	return p, nil
}
