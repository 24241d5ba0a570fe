// Package provision makes a host match a manifest. A plan compares what the
// manifest says with what libvirt's metadata remembers; apply walks the plan as
// a graph of steps. It knows every noun and touches the world only through the
// ports in ports.go.
package provision

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/packaging/components"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vtpm"
)

// Engine provisions one host. All fields but Now and Observe are required.
type Engine struct {
	Hypervisor  Hypervisor
	TPM         TPMHost
	Attestation Attestation
	Images      Images
	Remote      Remote
	Packages    Packages
	DataDir     string           // where the journal and the lock are
	Owner       string           // who applies, as user@host
	Now         func() time.Time // nil: time.Now
	Observe     func(Event)      // nil: nobody. Called from many goroutines.
}

func (e *Engine) now() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}

func (e *Engine) emit(ev Event) {
	if e.Observe == nil {
		return
	}
	ev.Time = e.now()
	e.Observe(ev)
}

// Lock makes this process the only one that changes the host, and finishes or
// undoes what a run that died has left. It waits while another process holds
// the lock; waiting, if not nil, is told who does.
func (e *Engine) Lock(ctx context.Context, holder string, waiting func(*lock.Busy)) (release func(), err error) {
	l, err := lock.Wait(ctx, filepath.Join(e.DataDir, "lock"), holder, waiting)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := e.recover(ctx); err != nil {
		l.Release()
		return nil, fmt.Errorf("clean up after an earlier run: %w", err)
	}
	return func() { l.Release() }, nil
}

// Plan compares the manifest with the host. It changes nothing.
func (e *Engine) Plan(ctx context.Context, m *roles.Manifest, opts PlanOptions) (*Plan, error) {
	domains, err := e.Hypervisor.Domains(ctx)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(m, opts.Targets)
	if err != nil {
		return nil, err
	}
	p := &Plan{manifest: m}
	seen := make(map[string]vm.State, len(domains))
	for _, d := range domains {
		seen[d.Name] = d
	}
	var problems []error
	packages := packageCache{engine: e}
	for _, r := range chosen {
		rp := RolePlan{Role: r.Name, role: r, intent: newIntent(m, r), state: seen[DomainName(r.Name)]}
		for i, c := range r.Components {
			if rp.intent.Components[i].Arguments, err = arguments(c); err != nil {
				return nil, fmt.Errorf("role %q: %w", r.Name, err)
			}
		}
		if rp.packages, err = packages.of(r); err != nil {
			problems = append(problems, err)
			continue
		}
		decide(&rp)
		p.Roles = append(p.Roles, rp)
	}
	blockConflicts(p, m.Host.DataDir, domains)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if err := e.planEnrolment(ctx, m, p); err != nil {
		return nil, err
	}
	if err := e.checkTPMs(ctx, p); err != nil {
		return nil, err
	}
	e.planOrphans(m, p, domains, opts)
	return p, e.planImages(ctx, p)
}

// rolesOf lists a manifest's roles, for a hint.
func rolesOf(m *roles.Manifest) string {
	if len(m.Roles) == 0 {
		return "it has none"
	}
	var names []string
	for _, r := range m.Roles {
		names = append(names, r.Name)
	}
	return "it has: " + strings.Join(names, ", ")
}

// choose returns the roles of m that are targeted.
func choose(m *roles.Manifest, targets []string) ([]roles.Role, error) {
	if len(targets) == 0 {
		return m.Roles, nil
	}
	var out []roles.Role
	for _, t := range targets {
		i := slices.IndexFunc(m.Roles, func(r roles.Role) bool { return r.Name == t })
		if i < 0 {
			return nil, hint.Wrap(fmt.Errorf("no role %q in the manifest", t), "%s", rolesOf(m))
		}
		out = append(out, m.Roles[i])
	}
	return out, nil
}

// blockConflicts blocks the roles that want what others have. A guest that runs
// as it should goes on, whoever else has its address.
func blockConflicts(p *Plan, dataDir string, domains []vm.State) {
	macs, displays := make(map[string]string), make(map[int]string) // to the domain that has it
	own := make(map[string]bool, len(p.Roles))
	for _, rp := range p.Roles {
		own[DomainName(rp.Role)] = true
	}
	for _, d := range domains {
		if own[d.Name] {
			continue
		}
		for _, mac := range d.MACs {
			macs[mac] = d.Name
		}
		if d.VNC != nil {
			displays[*d.VNC] = d.Name
		}
	}
	for i := range p.Roles {
		rp := &p.Roles[i]
		if err := foreign(rp.state, dataDir); err != nil {
			rp.block(err)
		} else if rp.Action != NoAction && rp.Action != Update {
			if err := taken(rp.role, macs, displays); err != nil {
				rp.block(err)
			}
		}
	}
}

// taken tells what a role wants that a domain has.
func taken(r roles.Role, macs map[string]string, displays map[int]string) error {
	var problems []error
	for _, n := range r.Networks {
		if holder, ok := macs[n.MAC]; ok {
			problems = append(problems, hint.Wrap(
				fmt.Errorf("MAC address %s is taken by domain %q", n.MAC, holder),
				`give the role's network block another "mac"`))
		}
	}
	if r.VNC != nil {
		if holder, ok := displays[r.VNC.Display]; ok {
			problems = append(problems, hint.Wrap(
				fmt.Errorf("VNC display %d (port %d) is taken by domain %q", r.VNC.Display, 5900+r.VNC.Display, holder),
				`give the role's vnc block another "display"`))
		}
	}
	return errors.Join(problems...)
}

// foreign tells why an existing domain is not one that we may change.
func foreign(d vm.State, dataDir string) error {
	switch {
	case !d.Exists:
		return nil
	case !d.Ours && d.Problem != "":
		return fmt.Errorf("domain %q: %s: %w", d.Name, d.Problem, vm.ErrForeign)
	case !d.Ours:
		return hint.Wrap(fmt.Errorf("domain %q: %w", d.Name, vm.ErrForeign), "rename the role, or remove that domain yourself with virsh")
	case d.Metadata.DataDir != dataDir:
		return hint.Wrap(fmt.Errorf("domain %q belongs to data directory %q: %w", d.Name, d.Metadata.DataDir, vm.ErrForeign),
			"use that data directory, or rename the role")
	}
	return nil
}

// checkTPMs makes roles whose guest runs on an unbound vTPM start again. To verify
// a record takes a millisecond of arithmetic, so all processors do.
func (e *Engine) checkTPMs(ctx context.Context, p *Plan) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i := range p.Roles {
		if rp := &p.Roles[i]; rp.Action == NoAction && rp.role.VTPM != nil {
			all.Go(func() error { return e.checkTPM(ctx, rp, p.certified) })
		}
	}
	return all.Wait()
}

func (e *Engine) checkTPM(ctx context.Context, rp *RolePlan, certified bool) error {
	status, err := e.TPM.Status(ctx, rp.state.UUID)
	if err != nil {
		return fmt.Errorf("role %q: vtpm: %w", rp.Role, err)
	}
	if status.Binding != vtpm.Bound {
		rp.Action = Reboot
		rp.Changes = append(rp.Changes, Change{"vtpm.binding", string(status.Binding), string(vtpm.Bound), Restart})
		rp.Reason = status.Reason
	} else if certified && !status.Certified {
		rp.renewBinding("new")
	}
	return nil
}

func (e *Engine) planOrphans(m *roles.Manifest, p *Plan, domains []vm.State, opts PlanOptions) {
	if len(opts.Targets) > 0 {
		return
	}
	declared := make(map[string]bool, len(m.Roles))
	for _, r := range m.Roles {
		declared[DomainName(r.Name)] = true
	}
	for _, d := range domains {
		if !d.Ours || d.Metadata.DataDir != m.Host.DataDir || declared[d.Name] {
			continue
		}
		if !opts.Prune {
			p.Orphans = append(p.Orphans, d.Metadata.Role)
			continue
		}
		p.Roles = append(p.Roles, RolePlan{Role: d.Metadata.Role, Action: Delete, state: d})
	}
	slices.Sort(p.Orphans)
}

// planImages lists the images that the plan needs.
func (e *Engine) planImages(ctx context.Context, p *Plan) error {
	done := make(map[string]bool)
	for _, rp := range p.Roles {
		if (rp.Action != Create && rp.Action != Remake) || done[rp.role.Image] {
			continue
		}
		done[rp.role.Image] = true
		img, ok := imageOf(p.manifest, rp.role)
		if !ok {
			continue
		}
		_, cached, err := e.Images.Lookup(ctx, ImageSource(p.manifest, img))
		if err != nil {
			return err
		}
		p.Images = append(p.Images, ImagePlan{img.Name, cached})
	}
	return nil
}

// ImageSource is what the cache is asked for an image of a manifest. One that is built
// has what the components of its roles use, as guests may reach no mirror.
func ImageSource(m *roles.Manifest, i roles.Image) image.Source {
	src := image.Source{Name: i.Name, URL: i.Source, File: i.File, SHA256: i.SHA256}
	b := i.Build
	if b == nil {
		return src
	}
	src.Build = &image.Build{Suite: b.Suite, Mirror: b.Mirror, Packages: slices.Clone(b.Packages), Size: b.Size}
	for _, r := range m.Roles {
		for _, c := range r.Components {
			if r.Image != i.Name || c.Path != "" {
				continue
			}
			for _, pkg := range components.Packages(c.Name, b.Suite) {
				if !slices.Contains(src.Build.Packages, pkg) {
					src.Build.Packages = append(src.Build.Packages, pkg)
					src.Build.Disabled = append(src.Build.Disabled, components.Disabled(pkg)...)
				}
			}
		}
	}
	slices.Sort(src.Build.Packages)
	return src
}

// packageCache opens each tarball once: a digest over it takes a while.
type packageCache struct {
	engine *Engine
	mu     sync.Mutex
	opened map[string]component.Package
}

func (c *packageCache) of(r roles.Role) ([]component.Package, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened == nil {
		c.opened = make(map[string]component.Package)
	}
	var out []component.Package
	for _, want := range r.Components {
		key := want.Name + "\x00" + want.Path
		pkg, ok := c.opened[key]
		if !ok {
			var err error
			if want.Path != "" {
				pkg, err = component.File(want.Name, want.Path)
			} else {
				pkg, err = c.engine.Packages.Open(want.Name)
			}
			if err != nil {
				return nil, fmt.Errorf("role %q: %w", r.Name, err)
			}
			c.opened[key] = pkg
		}
		out = append(out, pkg)
	}
	return out, nil
}
