package provision_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/templates"
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
	ready  string              // what units are in the end
	calls  int
	attested
	dieAt int // the call that kills; 0 for none
	kill  context.CancelFunc
}

func newWorld(t testing.TB) *world {
	w := &world{
		host: &vmtest.Host{}, dataDir: t.TempDir(), ready: "active ",
		tpms: make(map[string]bool), known: make(map[string]bool), images: make(map[string]bool), guests: make(map[string][]string),
	}
	w.host.Before = func(vmtest.Call) error { return w.call() }
	w.host.After = func(c vmtest.Call) error {
		if c.Method == "Undefine" {
			w.forgetServer(c.Name)
		}
		return w.call()
	}
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
		Hypervisor: w.host, TPM: tpmHost{w}, Attestation: attestation{w}, Images: images{w}, Remote: remoteSide{w}, Packages: packages{w},
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
	for _, id := range w.believed {
		left = append(left, "authority "+id)
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
	h.record(id.UUID)
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
	return vtpm.Status{Binding: vtpm.Bound, Simulated: true, BoundAt: time.Now().Add(-time.Hour), Certified: h.isCertified(uuid)}, nil
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

// Run does what the script does that receives components, with installers that
// only leave a line; a component named broken has one that fails. A licence server
// is asked what apply asks one.
func (g guest) Run(_ context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := g.call(); err != nil {
		return err
	}
	switch {
	case slices.Contains(argv, templates.ReadyScript):
		fmt.Fprintln(stdout, "activating ")
		fmt.Fprintln(stdout, g.world.ready)
		if strings.HasPrefix(g.world.ready, "failed") {
			fmt.Fprintln(stderr, "its last words")
			return errors.New("exit status 1")
		}
		return nil
	case slices.Contains(argv, templates.ConfigureScript):
		return g.configure(argv, stdin)
	case argv[0] == "sudo" && argv[3] != "sh":
		return g.licenceServer(argv, stdin, stdout, stderr)
	}
	at := slices.Index(argv, "ovsactl-receive")
	if at < 1 || argv[at-1] != templates.ReceiveScript {
		return fmt.Errorf("ran %q", argv)
	}
	codec, rest := argv[at+2], argv[at+3:]
	entries, err := unpacked(stdin, codec)
	if err != nil || !slices.Contains(entries, component.BundleEnd) {
		return fmt.Errorf("exit status 1: %q, %w", entries, err)
	}
	fmt.Fprintln(stdout, "received")
	for ; len(rest) > 0; rest = rest[5:] {
		name, installer := rest[0], path.Join(rest[0], rest[1], "install.sh")
		if !slices.Contains(entries, installer) {
			return fmt.Errorf("no %s in %q", installer, entries)
		}
		g.mu.Lock()
		g.guests[g.address] = append(g.guests[g.address], fmt.Sprintf("%s port=%s %s", installer, rest[3], codec))
		g.mu.Unlock()
		if name == "broken" {
			fmt.Fprintln(stderr, "no space left")
			return errors.New("exit status 3")
		}
		if err := g.call(); err != nil { // it dies between two components
			return err
		}
		fmt.Fprintf(stdout, "installed %s\n", name)
	}
	return nil
}

// configure leaves a line for each file that a component's arguments mean.
func (g guest) configure(argv []string, stdin io.Reader) error {
	contents := make(map[string]string)
	for entries := tar.NewReader(stdin); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(entries)
		if err != nil {
			return err
		}
		contents[h.Name] = string(data)
	}
	if _, whole := contents[component.BundleEnd]; !whole {
		return errors.New("it did not arrive whole")
	}
	g.mu.Lock()
	for rest := argv[slices.Index(argv, "ovsactl-configure")+4:]; len(rest) > 0; rest = rest[5:] {
		text := contents[rest[1]]
		if _, lines, ok := strings.Cut(text, "this file.\n"); ok {
			text = strings.ReplaceAll(lines, "\n", " ")
		}
		g.guests[g.address] = append(g.guests[g.address], fmt.Sprintf("%s %s's %s: %s", rest[0], rest[2], rest[4], text))
	}
	g.mu.Unlock()
	return g.call()
}

// unpacked lists what is in a compressed tar archive.
func unpacked(r io.Reader, codec string) ([]string, error) {
	var plain io.Reader
	var err error
	if codec == "zstd" {
		plain, err = zstd.NewReader(r)
	} else {
		plain, err = gzip.NewReader(r)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for entries := tar.NewReader(plain); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return names, err
		}
		names = append(names, h.Name)
	}
}

func (g guest) Close() error { return nil }

type packages struct{ *world }

// Open makes a tarball per version: the file NAME has it, "1" where there is none.
func (p packages) Open(name string) (component.Package, error) {
	version, err := os.ReadFile(filepath.Join(p.packages, name))
	if err != nil {
		version = []byte("1")
	}
	file := filepath.Join(p.packages, fmt.Sprintf("%s-%s.tar", name, version))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	script := []byte("#!/bin/sh\n")
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s-%s/install.sh", name, version), Mode: 0o755, Size: int64(len(script))})
	_, writeErr := w.Write(script)
	err = errors.Join(err, writeErr, w.Close(), os.WriteFile(file, archive.Bytes(), 0o600))
	if err != nil {
		return component.Package{}, err
	}
	pkg, err := component.File(name, file)
	pkg.Version, pkg.Ours = string(version), true
	return pkg, err
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
