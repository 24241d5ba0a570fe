package vm_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vm"
)

// driver opens libvirt's own test driver, whose one host is in this process.
// It has a running domain "test" that is not ours.
func driver(t *testing.T) *vm.Host {
	t.Helper()
	h, err := vm.Open(t.Context(), "test:///default", vm.Options{ShutdownTimeout: 2 * time.Second})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// plainSpec keeps to what the test driver knows.
func plainSpec(name string, n int) vm.Spec {
	return vm.Spec{
		Name: name, UUID: fmt.Sprintf("8c1c9e6e-6f0c-5d4e-9d4e-%012d", n), CPUs: 1, Memory: 64 << 20,
		Accel: vm.KVM, Firmware: vm.BIOS,
		Metadata: vm.Metadata{Role: name, Manifest: "sha256:1", Intent: []byte(`{"a":"<&>"}`), CreatedAt: time.Unix(1e9, 0)},
	}
}

func TestDriverGuestLives(t *testing.T) {
	h, ctx := driver(t), t.Context()
	spec := plainSpec("ovsa_a", 1)
	for range 2 {
		must(t, h.Define(ctx, spec))
		must(t, h.Start(ctx, spec.Name))
	}
	m := spec.Metadata
	m.HostKeys, m.User, m.Address = []string{"ssh-ed25519 AAAA"}, "ovsa", netip.MustParseAddr("192.0.2.1")
	for range 2 {
		must(t, h.SetMetadata(ctx, spec.Name, m))
	}
	s, err := h.Inspect(ctx, spec.Name)
	if err != nil || !s.Ours || !s.Active || s.Status != "running" || s.UUID != spec.UUID || !slices.Equal(s.Metadata.HostKeys, m.HostKeys) ||
		string(s.Metadata.Intent) != string(m.Intent) || s.Metadata.Address != m.Address || !s.Metadata.CreatedAt.Equal(m.CreatedAt) {
		t.Errorf("state %+v, %v", s, err)
	}
	all, err := h.Domains(ctx)
	must(t, err)
	if len(all) != 2 || slices.IndexFunc(all, func(s vm.State) bool { return s.Name == "test" && !s.Ours && s.Active }) < 0 {
		t.Errorf("domains %+v", all)
	}
	for range 2 {
		must(t, h.Stop(ctx, spec.Name))
	}
	if s, err := h.Inspect(ctx, spec.Name); err != nil || s.Active || !s.Exists {
		t.Errorf("after stop %+v, %v", s, err)
	}
	must(t, h.Start(ctx, spec.Name))
	for range 2 {
		must(t, h.Undefine(ctx, spec.Name))
	}
	if s, err := h.Inspect(ctx, spec.Name); err != nil || s.Exists {
		t.Errorf("after undefine %+v, %v", s, err)
	}
	must(t, h.Stop(ctx, spec.Name))
	for name, err := range map[string]error{
		"start":    h.Start(ctx, spec.Name),
		"metadata": h.SetMetadata(ctx, spec.Name, m),
	} {
		if !errors.Is(err, vm.ErrMissing) {
			t.Errorf("%s of a missing domain: %v, want ErrMissing", name, err)
		}
	}
}

func TestDriverForeignDomainIsNotTouched(t *testing.T) {
	h, ctx := driver(t), t.Context()
	for name, err := range map[string]error{
		"define":   h.Define(ctx, plainSpec("test", 1)),
		"metadata": h.SetMetadata(ctx, "test", plainSpec("test", 1).Metadata),
		"start":    h.Start(ctx, "test"),
		"stop":     h.Stop(ctx, "test"),
		"undefine": h.Undefine(ctx, "test"),
	} {
		if !errors.Is(err, vm.ErrForeign) || hint.Of(err) == "" {
			t.Errorf("%s: %v, want ErrForeign with a hint", name, err)
		}
	}
	if s, err := h.Inspect(ctx, "test"); err != nil || !s.Active || s.Ours {
		t.Errorf("state %+v, %v", s, err)
	}
	must(t, h.Define(ctx, plainSpec("ovsa_a", 7)))
	if err := h.Define(ctx, plainSpec("ovsa_b", 7)); !errors.Is(err, vm.ErrForeign) {
		t.Errorf("UUID of another domain: %v, want ErrForeign", err)
	}
}

func TestDriverVolumes(t *testing.T) {
	h, ctx := driver(t), t.Context()
	spec := vm.PoolSpec{Name: "ovsa", Path: "/no/such/place"}
	for range 2 {
		must(t, h.EnsurePool(ctx, spec))
	}
	spec.Path = "/other"
	if err := h.EnsurePool(ctx, spec); !errors.Is(err, vm.ErrForeign) {
		t.Errorf("pool elsewhere: %v, want ErrForeign", err)
	}
	if names, err := h.Volumes(ctx, "ovsa"); err != nil || len(names) != 0 {
		t.Errorf("volumes %q, %v", names, err)
	}
	for _, pool := range []string{"ovsa", "no-such-pool"} {
		must(t, h.DeleteVolume(ctx, pool, "never-was"))
	}
	if err := h.DeleteVolume(ctx, "ovsa", "../x"); err == nil {
		t.Error("a path is taken for a volume's name")
	}
	if err := h.CreateOverlay(ctx, "ovsa", "disk", "base", 1<<20); !errors.Is(err, vm.ErrMissing) {
		t.Errorf("overlay over nothing: %v, want ErrMissing", err)
	}
}

func TestDriverNetwork(t *testing.T) {
	h, ctx := driver(t), t.Context()
	spec := vm.NetworkSpec{Name: "lab", Bridge: "virbr5", CIDR: netip.MustParsePrefix("10.9.8.0/24")}
	for range 2 {
		must(t, h.EnsureNetwork(ctx, spec))
	}
	spec.Bridge = "virbr6"
	if err := h.EnsureNetwork(ctx, spec); !errors.Is(err, vm.ErrForeign) {
		t.Errorf("other bridge: %v, want ErrForeign", err)
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	for uri, want := range map[string]bool{
		"qemu+unix:///system?socket=/no/such/socket": true, // a daemon that does not run
		"nonsense:///":    true,
		"test:///default": false,
	} {
		h, err := vm.Open(t.Context(), uri, vm.Options{})
		if (err != nil) != want || err != nil && hint.Of(err) == "" {
			t.Errorf("%s: %v, hint %q", uri, err, hint.Of(err))
		}
		if err == nil {
			h.Close()
			if _, err := h.Domains(t.Context()); err == nil {
				t.Errorf("%s: a closed host answers", uri)
			}
		}
	}
}

// TestOpenLeavesSignalsAlone: libvirt and its event loop are C; an interrupt
// must still reach the program.
func TestOpenLeavesSignalsAlone(t *testing.T) {
	driver(t)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	must(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	select {
	case <-got:
	case <-time.After(5 * time.Second):
		t.Error("the signal was lost")
	}
}

// BenchmarkDomains lists a host of a thousand guests.
func BenchmarkDomains(b *testing.B) {
	h, err := vm.Open(b.Context(), "test:///default", vm.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	for i := range 1000 {
		if err := h.Define(b.Context(), plainSpec(fmt.Sprintf("ovsa_r%d", i), i+1)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if all, err := h.Domains(b.Context()); err != nil || len(all) != 1001 {
			b.Fatal(len(all), err)
		}
	}
}

// TestDriverPoolIsMadeByManyAtOnce: an apply ensures its pool once for each
// image, at the same time.
func TestDriverPoolIsMadeByManyAtOnce(t *testing.T) {
	h := driver(t)
	spec := vm.PoolSpec{Name: "shared", Path: "/shared"}
	var all errgroup.Group
	for range 16 {
		all.Go(func() error { return h.EnsurePool(t.Context(), spec) })
	}
	must(t, all.Wait())
}
