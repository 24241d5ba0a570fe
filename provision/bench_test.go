package provision_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vm/vmtest"
	"github.com/ovsactl/ovsactl/vtpm"
)

// many is a manifest of n roles without components.
func many(tb testing.TB, n int, host string) *roles.Manifest {
	tb.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "host \"local\" {\n  uri = %q\n  data_dir = %q\n}\n", host, tb.TempDir())
	b.WriteString("network \"default\" {\n  nat { cidr = \"10.20.0.0/16\" }\n}\n")
	for i := range n {
		fmt.Fprintf(&b, "role \"r%d\" {\n  network \"default\" { address = \"10.20.%d.%d\" }\n}\n", i, 1+i/200, 1+i%200)
	}
	m, _, diags := roles.Load([]string{"many.hcl"}, roles.Options{
		Getenv: func(string) string { return "" }, Sources: map[string][]byte{"many.hcl": []byte(b.String())},
	})
	if diags.HasErrors() {
		tb.Fatal(diags)
	}
	return m
}

// steady is what the benchmarks need of a host beside its hypervisor: every
// vTPM is bound, every guest answers.
type steady struct{}

func (steady) Manufacture(context.Context, vtpm.Identity) error { return nil }
func (steady) Bind(context.Context, vtpm.Identity) error        { return nil }
func (steady) Remove(context.Context, string) error             { return nil }
func (steady) Status(context.Context, string) (vtpm.Status, error) {
	return vtpm.Status{Binding: vtpm.Bound}, nil
}

func (steady) Lookup(_ context.Context, src image.Source) (image.Image, bool, error) {
	return image.Image{
		Name: src.Name, Digest: "sha256:" + strings.Repeat("ab", 32), Path: "/cache/disk.qcow2",
		Format: "qcow2", Virtual: 1 << 30, FirstBoot: image.Credentials,
	}, true, nil
}

func (s steady) Ensure(ctx context.Context, src image.Source, _ image.Progress) (image.Image, error) {
	img, _, err := s.Lookup(ctx, src)
	return img, err
}

// BenchmarkPlan plans a host on which nothing is to be done, and one on which
// everything is, with the host in memory.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		m := many(b, n, "test:///default")
		engine := &provision.Engine{Hypervisor: &vmtest.Host{}, TPM: steady{}, Images: steady{}, DataDir: m.Host.DataDir}
		b.Run(fmt.Sprintf("create/%d", n), func(b *testing.B) { plan(b, engine, m, n) })
		engine.Hypervisor = inMemory(b, m)
		b.Run(fmt.Sprintf("noop/%d", n), func(b *testing.B) { plan(b, engine, m, 0) })
	}
}

// BenchmarkPlanTestDriver is BenchmarkPlan against libvirt's own test driver.
func BenchmarkPlanTestDriver(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		m := many(b, n, "test:///default")
		host, err := vm.Open(b.Context(), m.Host.URI, vm.Options{DataDir: m.Host.DataDir})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range m.Roles {
			if err := errors.Join(host.Define(b.Context(), settled(m, r)), host.Start(b.Context(), provision.DomainName(r.Name))); err != nil {
				b.Fatal(err)
			}
		}
		engine := &provision.Engine{Hypervisor: host, TPM: steady{}, Images: steady{}, DataDir: m.Host.DataDir}
		b.Run(fmt.Sprintf("noop/%d", n), func(b *testing.B) { plan(b, engine, m, 0) })
		for _, r := range m.Roles { // the driver's host is one for the process
			if err := host.Undefine(b.Context(), provision.DomainName(r.Name)); err != nil {
				b.Fatal(err)
			}
		}
		host.Close()
	}
}

func plan(b *testing.B, engine *provision.Engine, m *roles.Manifest, changes int) {
	b.ReportAllocs()
	for b.Loop() {
		p, err := engine.Plan(b.Context(), m, provision.PlanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if got := p.Count(provision.Create); got != changes || p.Changed() != (changes > 0) {
			b.Fatalf("%d roles to create, want %d: %+v", got, changes, p.Roles[0])
		}
	}
}

// settled is the guest of a role as a finished apply leaves it.
func settled(m *roles.Manifest, r roles.Role) vm.Spec {
	return vm.Spec{
		Name: provision.DomainName(r.Name), UUID: provision.DomainUUID(m.Host.Name, r.Name), CPUs: 1, Memory: 64 << 20,
		Accel: vm.KVM, Firmware: vm.BIOS, Metadata: provision.SettledMetadata(m, r),
	}
}

// inMemory is a host with a running guest for each role.
func inMemory(b *testing.B, m *roles.Manifest) *vmtest.Host {
	b.Helper()
	h := &vmtest.Host{}
	for _, r := range m.Roles {
		definition, err := vm.DomainXML(settled(m, r))
		if err != nil {
			b.Fatal(err)
		}
		if err := h.AddForeign(definition, true); err != nil {
			b.Fatal(err)
		}
	}
	return h
}
