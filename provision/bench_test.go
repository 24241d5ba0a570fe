package provision_test

import (
	"context"
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

// manyText is a manifest of n roles without components.
func manyText(n int, host, dataDir string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "host \"local\" {\n  uri = %q\n  data_dir = %q\n}\n", host, dataDir)
	b.WriteString("network \"default\" {\n  nat { cidr = \"10.20.0.0/16\" }\n}\n")
	for i := range n {
		fmt.Fprintf(&b, "role \"r%d\" {\n  network \"default\" { address = \"10.20.%d.%d\" }\n}\n", i, 1+i/200, 1+i%200)
	}
	return []byte(b.String())
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

// BenchmarkPlan is the plan alone, with the host in memory: all there is to do,
// and nothing.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		m := newCommand(b, n, steady{}).load(b)
		engine := &provision.Engine{Hypervisor: &vmtest.Host{}, TPM: steady{}, Images: steady{}, DataDir: m.Host.DataDir}
		plan := func(changes int) func(*testing.B) {
			return func(b *testing.B) {
				measure(b, func() error {
					_, err := planned(b.Context(), engine, m, changes)
					return err
				})
			}
		}
		b.Run(fmt.Sprintf("create/roles=%d", n), plan(n))
		engine.Hypervisor = inMemory(b, m)
		b.Run(fmt.Sprintf("noop/roles=%d", n), plan(0))
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
