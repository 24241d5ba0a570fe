package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vm/vmtest"
	"github.com/ovsactl/ovsactl/vtpm"
)

var errDead = errors.New("the process is dead")

// world is a host in memory that outlives the engines that work on it. The
// process that uses it can be made to die at any of its calls.
type world struct {
	host     *vmtest.Host
	dataDir  string
	packages string

	mu     sync.Mutex
	tpms   map[string]bool // vTPM state by UUID, true when bound
	known  map[string]bool // known hosts
	images map[string]bool
	guests map[string][]string // what ran in each guest, by address
	calls  int
	dieAt  int // the call that kills; 0 for none
	kill   context.CancelFunc
}

func newWorld(t testing.TB) *world {
	w := &world{
		host: &vmtest.Host{}, dataDir: t.TempDir(),
		tpms: make(map[string]bool), known: make(map[string]bool), images: make(map[string]bool), guests: make(map[string][]string),
	}
	w.host.Before = func(vmtest.Call) error { return w.call() }
	w.host.After = func(vmtest.Call) error { return w.call() }
	w.packages = t.TempDir()
	return w
}

// call counts, and dies when it is time to. A dead process does nothing more.
func (w *world) call() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.dieAt > 0 && w.calls >= w.dieAt {
		w.kill()
		return errDead
	}
	return nil
}

// life is one process's life: it may die at a call.
func (w *world) life(ctx context.Context, dieAt int) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	w.calls, w.dieAt, w.kill = 0, dieAt, cancel
	return ctx
}

func (w *world) engine() *provision.Engine {
	return &provision.Engine{
		Hypervisor: w.host, TPM: tpmHost{w}, Images: images{w}, Remote: remoteSide{w}, Packages: packages{w},
		DataDir: w.dataDir, Owner: "test@here",
	}
}

// left lists everything of ours that is on the host, base volumes included.
func (w *world) left(t testing.TB) []string {
	t.Helper()
	left := w.host.Left()
	for uuid := range w.tpms {
		left = append(left, "vtpm "+uuid)
	}
	for name := range w.known {
		left = append(left, "known host "+name)
	}
	journals, err := filepath.Glob(filepath.Join(w.dataDir, "journal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range journals {
		left = append(left, "journal "+filepath.Base(j))
	}
	slices.Sort(left)
	return left
}

type tpmHost struct{ *world }

func (h tpmHost) Manufacture(_ context.Context, id vtpm.Identity) error {
	if err := h.call(); err != nil {
		return err
	}
	h.mu.Lock()
	if _, made := h.tpms[id.UUID]; !made {
		h.tpms[id.UUID] = false
	}
	h.mu.Unlock()
	return h.call()
}

func (h tpmHost) Bind(_ context.Context, id vtpm.Identity) error {
	if err := h.call(); err != nil {
		return err
	}
	h.mu.Lock()
	_, made := h.tpms[id.UUID]
	h.tpms[id.UUID] = true
	h.mu.Unlock()
	if !made {
		return errors.New("bind: no vTPM state")
	}
	return h.call()
}

func (h tpmHost) Status(_ context.Context, uuid string) (vtpm.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bound, made := h.tpms[uuid]
	switch {
	case !made:
		return vtpm.Status{Binding: vtpm.Missing}, nil
	case !bound:
		return vtpm.Status{Binding: vtpm.Unbound, Reason: "no record"}, nil
	}
	return vtpm.Status{Binding: vtpm.Bound, Simulated: true, BoundAt: time.Now().Add(-time.Hour)}, nil
}

func (h tpmHost) Remove(_ context.Context, uuid string) error {
	if err := h.call(); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.tpms, uuid)
	h.mu.Unlock()
	return h.call()
}

type images struct{ *world }

func (i images) image(src image.Source) image.Image {
	img := image.Image{Name: src.Name, Digest: "sha256:" + strings.Repeat("ab", 32), Path: "/cache/disk.qcow2", Format: "qcow2", Virtual: 1 << 30, FirstBoot: image.Credentials}
	if src.Build == nil {
		img.Digest, img.FirstBoot = "sha256:"+src.SHA256, image.CloudInit
	}
	return img
}

func (i images) Lookup(_ context.Context, src image.Source) (image.Image, bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.image(src), i.images[src.Name], nil
}

func (i images) Ensure(_ context.Context, src image.Source, _ image.Progress) (image.Image, error) {
	if err := i.call(); err != nil {
		return image.Image{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.images[src.Name] = true
	return i.image(src), nil
}

type remoteSide struct{ *world }

func (r remoteSide) AuthorizedKey() string { return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG key" }

func (r remoteSide) Remember(name string, _ netip.Addr, _ []string) error {
	if err := r.call(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[name] = true
	return nil
}

func (r remoteSide) Forget(name string, _ netip.Addr) error {
	if err := r.call(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, name)
	return nil
}

func (r remoteSide) Dial(ctx context.Context, addr netip.Addr, _ string, keys []string) (provision.Guest, error) {
	if err := r.call(); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("no host keys")
	}
	return guest{r.world, addr.String()}, ctx.Err()
}

// guest records what runs in it.
type guest struct {
	*world
	address string
}

func (g guest) Run(_ context.Context, argv []string, _ io.Reader, _, stderr io.Writer) error {
	if err := g.call(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	line := strings.Join(argv, " ")
	g.guests[g.address] = append(g.guests[g.address], line)
	if strings.Contains(line, "/broken-1/install.sh") {
		fmt.Fprintln(stderr, "no space left")
		return errors.New("exit status 3")
	}
	return nil
}

func (g guest) Put(_ context.Context, r io.Reader, _ int64, _, path string, _ uint32) error {
	if err := g.call(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

func (g guest) Close() error { return nil }

type packages struct{ *world }

// Open makes a tarball of one byte per version.
func (p packages) Open(name string) (component.Package, error) {
	path := filepath.Join(p.packages, name)
	version, err := os.ReadFile(path)
	if err != nil {
		version = []byte("1")
		if err := os.WriteFile(path, version, 0o600); err != nil {
			return component.Package{}, err
		}
	}
	return component.Package{
		Name: name, Version: string(version), Digest: fmt.Sprintf("%064x", bytes.TrimSpace(version)),
		Path: path, Size: int64(len(version)), Dir: name + "-" + string(version),
	}, nil
}

// manifest is two roles: one of a built image, one of a cloud image.
func manifest(t testing.TB, w *world, edit func(*roles.Manifest)) *roles.Manifest {
	t.Helper()
	src := fmt.Sprintf(`
host "local" { data_dir = %q }
image "debian" {
  build {}
}
image "noble" {
  source = "https://example.org/noble.img"
  sha256 = %q
}
role "isv_dev" {
  image = image.debian
  network "default" { address = "192.168.122.20" }
  vnc {}
  component "developer" {}
}
role "runtime" {
  image = image.noble
  network "default" { address = "192.168.122.30" }
  component "model_hosting" {}
}
`, w.dataDir, strings.Repeat("cd", 32))
	m, _, diags := roles.Load([]string{"roles.hcl"}, roles.Options{Sources: map[string][]byte{"roles.hcl": []byte(src)}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if edit != nil {
		edit(m)
	}
	return m
}

// apply plans and applies under the lock, as the command line does.
func apply(ctx context.Context, e *provision.Engine, m *roles.Manifest) (*provision.Plan, *provision.Report, error) {
	release, err := e.Lock(ctx, "test", nil)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	p, err := e.Plan(ctx, m, provision.PlanOptions{})
	if err != nil {
		return nil, nil, err
	}
	r, err := e.Apply(ctx, p, provision.ApplyOptions{})
	return p, r, err
}

func destroy(ctx context.Context, e *provision.Engine, m *roles.Manifest) error {
	release, err := e.Lock(ctx, "test", nil)
	if err != nil {
		return err
	}
	defer release()
	p, err := e.PlanDestroy(ctx, m, nil)
	if err != nil {
		return err
	}
	_, err = e.Apply(ctx, p, provision.ApplyOptions{})
	return err
}
