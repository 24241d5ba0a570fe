package vmtest_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vm/vmtest"
)

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func spec() vm.Spec {
	return vm.Spec{
		Name: "ovsa_runtime", UUID: "8c1c9e6e-6f0c-5d4e-9d4e-000000000001", CPUs: 2, Memory: 1 << 30,
		Accel: vm.TCG, Firmware: vm.UEFI, TPM: vm.CRB,
		Disks:    []vm.Disk{{Pool: "ovsa", Volume: "disk.qcow2", Format: "qcow2"}},
		NICs:     []vm.NIC{{Network: "default", MAC: "52:54:00:aa:bb:01"}},
		Metadata: vm.Metadata{Role: "runtime", Intent: []byte(`{"cpus":2}`)},
	}
}

func build(t *testing.T, h *vmtest.Host) {
	t.Helper()
	ctx := t.Context()
	must(t, h.EnsurePool(ctx, vm.PoolSpec{Name: "ovsa", Path: "/var/OVSA/vm_images"}))
	base, err := h.EnsureBase(ctx, "ovsa", image.Image{Digest: digest, Format: "qcow2"}, nil)
	must(t, err)
	must(t, h.CreateOverlay(ctx, "ovsa", "disk.qcow2", base, 1<<30))
	must(t, h.EnsureNetwork(ctx, vm.NetworkSpec{Name: "default", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.122.0/24")}))
	must(t, h.Reserve(ctx, "default", vm.Reservation{MAC: "52:54:00:aa:bb:01", Address: netip.MustParseAddr("192.168.122.30"), Name: "ovsa-runtime"}))
	must(t, h.Define(ctx, spec()))
	must(t, h.Start(ctx, "ovsa_runtime"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGuestLivesAndLeavesNothing(t *testing.T) {
	h := &vmtest.Host{}
	ctx := t.Context()
	build(t, h)
	build(t, h) // again changes nothing
	first, err := h.HostKeys(ctx, "ovsa_runtime")
	must(t, err)

	m := spec().Metadata
	m.HostKeys = first
	must(t, h.SetMetadata(ctx, "ovsa_runtime", m))
	s, err := h.Inspect(ctx, "ovsa_runtime")
	must(t, err)
	if !s.Ours || !s.Active || !slices.Equal(s.Metadata.HostKeys, first) || string(s.Metadata.Intent) != `{"cpus":2}` {
		t.Errorf("state %+v", s)
	}

	must(t, h.Undefine(ctx, "ovsa_runtime"))
	must(t, h.DeleteVolume(ctx, "ovsa", "disk.qcow2"))
	must(t, h.Unreserve(ctx, "default", "52:54:00:aa:bb:01"))
	if left := h.Left(); !slices.Equal(left, []string{"base ovsa/base-9f86d081884c7d65.qcow2"}) {
		t.Errorf("left %q", left)
	}

	build(t, h)
	second, err := h.HostKeys(ctx, "ovsa_runtime")
	must(t, err)
	if slices.Equal(first, second) {
		t.Error("a new disk has the old host key")
	}
}

func TestForeignDomainIsNotTouched(t *testing.T) {
	foreign := `<domain type="kvm"><name>ovsa_runtime</name><uuid>8c1c9e6e-6f0c-5d4e-9d4e-00000000000f</uuid></domain>`
	h := &vmtest.Host{}
	ctx := t.Context()
	must(t, h.AddForeign(foreign, true))
	for name, err := range map[string]error{
		"Define":      h.Define(ctx, spec()),
		"SetMetadata": h.SetMetadata(ctx, "ovsa_runtime", spec().Metadata),
		"Start":       h.Start(ctx, "ovsa_runtime"),
		"Stop":        h.Stop(ctx, "ovsa_runtime"),
		"Undefine":    h.Undefine(ctx, "ovsa_runtime"),
	} {
		if !errors.Is(err, vm.ErrForeign) {
			t.Errorf("%s: %v, want ErrForeign", name, err)
		}
	}
	if s, _ := h.Inspect(ctx, "ovsa_runtime"); !s.Active || h.DomainXML("ovsa_runtime") != foreign {
		t.Errorf("foreign domain was changed: %+v", s)
	}
}

func TestFailureIsInjectedBeforeOrAfterTheEffect(t *testing.T) {
	boom := errors.New("boom")
	h := &vmtest.Host{}
	ctx := t.Context()
	h.Fail("Define", 1, boom)
	h.FailAfter("Define", 2, boom)
	for i, want := range []bool{false, true} {
		if err := h.Define(ctx, spec()); !errors.Is(err, boom) {
			t.Fatalf("call %d: %v, want boom", i+1, err)
		}
		if s, _ := h.Inspect(ctx, "ovsa_runtime"); s.Exists != want {
			t.Errorf("after call %d exists is %v", i+1, s.Exists)
		}
	}
	must(t, h.Define(ctx, spec()))
}

func TestSilentGuestEndsWithTheContext(t *testing.T) {
	h := &vmtest.Host{Silent: map[string]bool{"ovsa_runtime": true}}
	build(t, h)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.HostKeys(ctx, "ovsa_runtime"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
}
