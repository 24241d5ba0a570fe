package vm_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vm/seed"
)

// The tests in this file change the libvirt of the machine that they run on, so
// they run in a lab only: `ovsactl lab run -- go test ./vm/`.
func labHost(t *testing.T) *vm.Host {
	t.Helper()
	if os.Getenv("OVSACTL_LAB") == "" {
		need.Absent(t, "lab", "not in a lab: ovsactl lab run -- go test ./vm/")
	}
	h, err := vm.Open(t.Context(), "qemu:///system", vm.Options{DataDir: t.TempDir(), ShutdownTimeout: time.Minute})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func labSpec(name string) vm.Spec {
	return vm.Spec{
		Name: name, UUID: "8c1c9e6e-6f0c-5d4e-9d4e-0000000000a1", CPUs: 2, Memory: 1 << 30,
		Accel: vm.TCG, Firmware: vm.UEFI, TPM: vm.CRB, VNC: new(int),
		NICs:     []vm.NIC{{Network: "default", MAC: "52:54:00:aa:bb:01"}},
		Metadata: vm.Metadata{Role: "lab", Manifest: "sha256:1", Intent: []byte(`{"cpus": 2}`), CreatedAt: time.Now()},
	}
}

// labPool makes a pool of the test's own that QEMU can reach.
func labPool(t *testing.T, h *vm.Host) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib/libvirt", "lab-test-") //nolint:usetesting // QEMU, which is not root, has to reach it
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	spec := vm.PoolSpec{Name: "ovsatest", Path: filepath.Join(dir, "vm_images")}
	must(t, h.EnsurePool(t.Context(), spec))
	must(t, h.EnsurePool(t.Context(), spec))
	spec.Path += "2"
	if err := h.EnsurePool(t.Context(), spec); !errors.Is(err, vm.ErrForeign) {
		t.Errorf("pool elsewhere: %v, want ErrForeign", err)
	}
	t.Cleanup(func() {
		virsh(t, "pool-destroy", "ovsatest")
		virsh(t, "pool-undefine", "ovsatest")
		os.RemoveAll(dir)
	})
	return spec.Name
}

// virsh is the second opinion.
func virsh(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run.Cmd{Path: "virsh", Args: args}.Output(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Errorf("virsh %q: %v", args, err)
	}
	return string(out)
}

func labImage(t *testing.T, path string) image.Image {
	t.Helper()
	return image.Image{Name: "test", Digest: "sha256:" + strings.Repeat("a1", 32), Path: path, Format: "qcow2"}
}

func TestLabStorage(t *testing.T) {
	h := labHost(t)
	ctx := t.Context()
	pool := labPool(t, h)
	file := filepath.Join(t.TempDir(), "base.qcow2")
	must(t, run.Cmd{Path: "qemu-img", Args: []string{"create", "-q", "-f", "qcow2", file, "64M"}}.Run(ctx))
	must(t, run.Cmd{Path: "qemu-io", Args: []string{"-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "write -P 9 40M 1M", file}}.Run(ctx))
	img := labImage(t, file)

	// A killed upload: the base is there and nothing says that it is complete.
	virsh(t, "vol-create-as", pool, "base-a1a1a1a1a1a1a1a1.qcow2", "1M", "--format", "raw")
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := h.EnsureBase(ctx, pool, img, nil)
			done <- err
		}()
	}
	must(t, errors.Join(<-done, <-done))
	base, err := h.EnsureBase(ctx, pool, img, nil)
	must(t, err)
	must(t, h.CreateOverlay(ctx, pool, "o.qcow2", base, 64<<20))
	must(t, h.CreateOverlay(ctx, pool, "o.qcow2", base, 128<<20))
	if err := h.CreateOverlay(ctx, pool, "o.qcow2", base, 64<<20); err == nil {
		t.Error("an overlay shrank")
	}
	if err := h.CreateOverlay(ctx, pool, "small.qcow2", base, 1<<20); err == nil {
		t.Error("an overlay is smaller than its base")
	}
	path := strings.TrimSpace(virsh(t, "vol-path", "--pool", pool, "o.qcow2"))
	must(t, run.Cmd{Path: "qemu-io", Args: []string{"-r", "-f", "qcow2", "-c", "read -P 7 1M 3M", "-c", "read -P 9 40M 1M", "-c", "read -P 0 100M 1M", path}}.Run(ctx))

	for _, content := range []string{strings.Repeat("seed", 1000), "shorter"} {
		must(t, h.WriteVolume(ctx, pool, "seed.img", []byte(content)))
		got, err := os.ReadFile(filepath.Join(filepath.Dir(path), "seed.img"))
		if err != nil || string(got) != content {
			t.Errorf("volume has %d bytes, %v; want %d", len(got), err, len(content))
		}
	}
	names, err := h.Volumes(ctx, pool)
	must(t, err)
	if !slices.Equal(names, []string{base, "o.qcow2", "seed.img"}) {
		t.Errorf("volumes %q", names)
	}
	// Also in a pool that a dead run has made and not started.
	virsh(t, "pool-destroy", pool)
	for _, name := range append(names, "never-was") {
		must(t, h.DeleteVolume(ctx, pool, name))
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the pool: %v, %v", left, err)
	}
}

func TestLabNetwork(t *testing.T) {
	h := labHost(t)
	ctx := t.Context()
	standard := vm.NetworkSpec{Name: "default", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.122.0/24")}
	must(t, h.EnsureNetwork(ctx, standard))
	for name, spec := range map[string]vm.NetworkSpec{
		"other range":     {Name: "default", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.150.0/24")},
		"other bridge":    {Name: "default", Bridge: "virbr7", CIDR: standard.CIDR},
		"range is taken":  {Name: "second", Bridge: "virbr7", CIDR: netip.MustParsePrefix("192.168.122.128/25")},
		"bridge is taken": {Name: "second", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.150.0/24")},
	} {
		if err := h.EnsureNetwork(ctx, spec); !errors.Is(err, vm.ErrForeign) {
			t.Errorf("%s: %v, want ErrForeign", name, err)
		}
	}
	second := vm.NetworkSpec{Name: "second", Bridge: "virbr9", CIDR: netip.MustParsePrefix("192.168.199.0/24")}
	must(t, h.EnsureNetwork(ctx, second))
	must(t, h.EnsureNetwork(ctx, second))
	t.Cleanup(func() { virsh(t, "net-destroy", "second"); virsh(t, "net-undefine", "second") })

	r := vm.Reservation{MAC: "52:54:00:00:00:01", Address: netip.MustParseAddr("192.168.199.20"), Name: "one"}
	must(t, h.Reserve(ctx, "second", r))
	must(t, h.Reserve(ctx, "second", r))
	other := r
	other.MAC, other.Name = "52:54:00:00:00:02", "two"
	if err := h.Reserve(ctx, "second", other); !errors.Is(err, vm.ErrForeign) {
		t.Errorf("taken address: %v, want ErrForeign", err)
	}
	r.Address = netip.MustParseAddr("192.168.199.21")
	must(t, h.Reserve(ctx, "second", r)) // moved
	must(t, h.Reserve(ctx, "second", other))
	for _, view := range [][]string{{"net-dumpxml", "second"}, {"net-dumpxml", "second", "--inactive"}} {
		text := virsh(t, view...)
		if strings.Count(text, "<host ") != 2 || !strings.Contains(text, "ip='192.168.199.21'") {
			t.Errorf("%q says\n%s", view, text)
		}
	}
	for _, mac := range []string{r.MAC, other.MAC, "52:54:00:00:00:03"} {
		must(t, h.Unreserve(ctx, "second", mac))
	}
	if text := virsh(t, "net-dumpxml", "second"); strings.Contains(text, "<host ") {
		t.Errorf("left: %s", text)
	}
	must(t, h.Unreserve(ctx, "no-such-network", r.MAC))
}

// TestLabGuest boots the image that OVSA_TEST_IMAGE names, one of ours.
func TestLabGuest(t *testing.T) {
	h := labHost(t)
	source := os.Getenv("OVSA_TEST_IMAGE")
	if source == "" {
		t.Skip("OVSA_TEST_IMAGE names no image to boot")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	spec, address := prepareGuest(ctx, t, h, source)
	must(t, h.Define(ctx, spec))
	t.Cleanup(func() { h.Undefine(context.WithoutCancel(ctx), spec.Name) })

	began := time.Now()
	must(t, h.Start(ctx, spec.Name))
	must(t, h.Start(ctx, spec.Name))
	t.Logf("started in %s", time.Since(began))
	keys, err := h.HostKeys(ctx, spec.Name)
	if err != nil {
		tail, tailErr := h.SerialTail(context.WithoutCancel(ctx), spec.Name, 40)
		t.Fatalf("%v\n%s\n%v", err, strings.Join(tail, "\n"), tailErr)
	}
	t.Logf("host keys after %s: %q", time.Since(began), keys)
	again, err := h.HostKeys(ctx, spec.Name)
	if err != nil || !slices.Equal(keys, again) {
		t.Errorf("second announcement %q, %v", again, err)
	}
	whileRunning(ctx, t, h, spec, keys)

	for !strings.Contains(virsh(t, "net-dhcp-leases", "default"), address.String()) {
		if ctx.Err() != nil {
			t.Fatal("no lease of the reserved address")
		}
		time.Sleep(time.Second)
	}
	t.Logf("leased after %s", time.Since(began))
	began = time.Now()
	must(t, h.Stop(ctx, spec.Name))
	t.Logf("stopped in %s", time.Since(began))
	if s, err := h.Inspect(ctx, spec.Name); err != nil || s.Active || s.Status != "shut off" {
		t.Errorf("after stop %+v, %v", s, err)
	}
	must(t, h.Unreserve(ctx, "default", spec.NICs[0].MAC))
	time.Sleep(500 * time.Millisecond)
	if leases := virsh(t, "net-dhcp-leases", "default"); strings.Contains(leases, spec.NICs[0].MAC) {
		t.Errorf("lease is left: %s", leases)
	}
	must(t, h.Undefine(ctx, spec.Name))
	must(t, h.Undefine(ctx, spec.Name))
	leavesNothing(t, spec)
}

// prepareGuest makes all that a guest needs before it is defined.
func prepareGuest(ctx context.Context, t *testing.T, h *vm.Host, source string) (vm.Spec, netip.Addr) {
	t.Helper()
	pool := labPool(t, h)
	spec := labSpec("ovsa_lab_test")
	address := netip.MustParseAddr("192.168.122.77")
	must(t, h.EnsureNetwork(ctx, vm.NetworkSpec{Name: "default", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.122.0/24")}))
	must(t, h.Reserve(ctx, "default", vm.Reservation{MAC: spec.NICs[0].MAC, Address: address, Name: "ovsa-lab-test"}))
	began := time.Now()
	base, err := h.EnsureBase(ctx, pool, labImage(t, source), nil)
	must(t, err)
	t.Logf("base uploaded in %s", time.Since(began))
	must(t, h.CreateOverlay(ctx, pool, "disk.qcow2", base, 8<<30))
	d := seed.Data{Hostname: "ovsa-lab-test", InstanceID: spec.UUID, User: "ovsa", AuthorizedKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVzIG5pY2h0cw== test"}}
	spec.Credentials = seed.Credentials(d)
	disk, err := seed.NoCloud(d)
	must(t, err)
	must(t, h.WriteVolume(ctx, pool, "seed.img", disk))
	spec.Disks = []vm.Disk{
		{Pool: pool, Volume: "disk.qcow2", Format: "qcow2", Serial: "root"},
		{Pool: pool, Volume: "seed.img", Format: "raw", ReadOnly: true},
	}
	// An empty directory is a blank TPM to libvirt: enough to see that it is used
	// and removed. What a real one holds is the vtpm package's matter.
	must(t, os.MkdirAll(filepath.Join("/var/lib/libvirt/swtpm", spec.UUID, "tpm2"), 0o711))
	return spec, address
}

func whileRunning(ctx context.Context, t *testing.T, h *vm.Host, spec vm.Spec, keys []string) {
	t.Helper()
	m := spec.Metadata
	m.HostKeys = keys
	must(t, h.SetMetadata(ctx, spec.Name, m))
	s, err := h.Inspect(ctx, spec.Name)
	must(t, err)
	if !s.Active || !s.Ours || s.Stale || time.Since(s.StartedAt) > 5*time.Minute || !slices.Equal(s.Metadata.HostKeys, keys) || string(s.Metadata.Intent) != `{"cpus": 2}` {
		t.Errorf("state %+v", s)
	}
	spec.Metadata = m
	spec.Metadata.Manifest = "sha256:2"
	must(t, h.Define(ctx, spec))
	if s, err := h.Inspect(ctx, spec.Name); err != nil || !s.Stale || !s.Active {
		t.Errorf("after a change while it runs: %+v, %v", s, err)
	}
	tail, err := h.SerialTail(ctx, spec.Name, 5)
	must(t, err)
	t.Logf("serial: %q", tail)
	if len(tail) == 0 {
		t.Error("the serial log is empty")
	}
	shot, err := h.Screenshot(ctx, spec.Name)
	if err != nil || len(shot) == 0 {
		t.Errorf("screenshot of %d bytes, %v", len(shot), err)
	}
	var out strings.Builder
	in, typed, err := os.Pipe()
	must(t, err)
	defer in.Close()
	go func() {
		typed.WriteString("\n")
		time.Sleep(3 * time.Second)
		typed.Write([]byte{vm.ConsoleEscape})
		typed.Close()
	}()
	must(t, h.Console(ctx, spec.Name, in, &out))
	if !strings.Contains(out.String(), "login:") {
		t.Errorf("console says %q", out.String())
	}
}

func leavesNothing(t *testing.T, spec vm.Spec) {
	t.Helper()
	for _, pattern := range []string{
		"/var/lib/libvirt/qemu/nvram/" + spec.Name + "*", "/var/lib/libvirt/swtpm/" + spec.UUID,
		"/var/log/libvirt/qemu/" + spec.Name + "-serial*", "/etc/libvirt/qemu/" + spec.Name + "*",
		"/var/lib/libvirt/qemu/save/" + spec.Name + "*", "/etc/libvirt/storage/ovsactl*",
	} {
		left, err := filepath.Glob(pattern)
		if err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	if pools := virsh(t, "pool-list", "--all", "--name"); strings.Contains(pools, "ovsactl-serial") {
		t.Errorf("left: pool %s", pools)
	}
}

// TestLabPoolIsUsedByManyAtOnce: an apply makes the disks and seeds of all roles
// at the same time, and libvirt refuses to look for a volume while it writes one.
func TestLabPoolIsUsedByManyAtOnce(t *testing.T) {
	h := labHost(t)
	pool := labPool(t, h)
	base := "base.img"
	must(t, h.WriteVolume(t.Context(), pool, base, make([]byte, 1<<20)))
	var all errgroup.Group
	for i := range 16 {
		all.Go(func() error {
			return h.CreateOverlay(t.Context(), pool, fmt.Sprintf("disk%d.qcow2", i), base, 1<<30)
		})
		all.Go(func() error {
			return h.WriteVolume(t.Context(), pool, fmt.Sprintf("seed%d.img", i), make([]byte, 1<<20))
		})
		all.Go(func() error {
			_, err := h.Volumes(t.Context(), pool)
			return err
		})
	}
	must(t, all.Wait())
}
