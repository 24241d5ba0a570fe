package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/internal/dag"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
)

// ApplyOptions tune a run. Zero values are the defaults.
type ApplyOptions struct {
	Parallelism int           // steps at a time, default 8
	Timeout     time.Duration // from start to reachable, default 5 minutes, and 15 without KVM
}

const (
	defaultParallelism = 8
	defaultTimeout     = 5 * time.Minute
	emulatedTimeout    = 15 * time.Minute
)

// ErrRoles says that some roles failed; the report has the causes.
var ErrRoles = errors.New("not every role is ready")

// Apply carries out the plan. Roles do not wait for each other: when one
// fails, the others finish, and the error wraps ErrRoles. Call it under Lock,
// with a plan made under the same lock. It may be interrupted at any point: the
// next run finishes or undoes.
func (e *Engine) Apply(ctx context.Context, p *Plan, opts ApplyOptions) (*Report, error) {
	if opts.Parallelism <= 0 {
		opts.Parallelism = defaultParallelism
	}
	start := e.now()
	if !p.Changed() {
		return &Report{}, nil
	}
	j, err := e.openJournal()
	if err != nil {
		return nil, err
	}
	r := &run{Engine: e, plan: p, opts: opts, journal: j, images: make(map[string]image.Image), bases: make(map[string]string), elapsed: make(map[string]time.Duration)}
	r.accel = sync.OnceValues(func() (vm.Accel, error) { return r.accelerator(ctx) })
	nodes, err := r.graph()
	if err != nil {
		return nil, errors.Join(err, j.finish())
	}
	results, err := dag.Walk(ctx, nodes, opts.Parallelism)
	if err != nil {
		return nil, errors.Join(err, j.finish())
	}
	for _, s := range r.roles {
		s.disconnect()
	}
	report := r.report(nodes, results)
	report.Elapsed = e.now().Sub(start)
	if ctx.Err() != nil {
		// The journal stays: the next run looks after what is half-made.
		return report, context.Cause(ctx)
	}
	failed := report.Host != nil || slices.ContainsFunc(report.Roles, func(r RoleReport) bool { return r.Failed != "" })
	if !failed {
		return report, j.finish()
	}
	return report, ErrRoles
}

// run is one Apply.
type run struct {
	*Engine
	plan    *Plan
	opts    ApplyOptions
	journal *journal
	accel   func() (vm.Accel, error)
	roles   []*roleRun
	tidying sync.Mutex // held while base volumes are removed

	mu      sync.Mutex
	images  map[string]image.Image   // by name in the manifest
	bases   map[string]string        // volume names, likewise
	elapsed map[string]time.Duration // by step
}

// graph makes the steps of the plan.
func (r *run) graph() ([]dag.Node, error) {
	var nodes []dag.Node
	networks, images := make(map[string]bool), make(map[string]bool)
	for i := range r.plan.Roles {
		if rp := &r.plan.Roles[i]; rp.Action != NoAction {
			r.roles = append(r.roles, &roleRun{run: r, plan: rp})
		}
	}
	for _, s := range r.roles {
		rp := s.plan
		if rp.Action == Blocked { // nothing of that name is ours to clean up
			nodes = append(nodes, s.nodes()...)
			continue
		}
		for _, o := range s.owned() {
			if err := r.journal.write(entry{Time: r.now(), Event: "owns", Owns: &o}, true); err != nil {
				return nil, err
			}
		}
		if rp.Action != Delete && !s.inPlace() {
			if img := rp.role.Image; s.needsImage() && !images[img] {
				images[img] = true
				nodes = append(nodes, r.node("image."+img, nil, func(ctx context.Context) error { return r.ensureImage(ctx, img) }))
			}
			for _, n := range rp.role.Networks {
				if !networks[n.Network] {
					networks[n.Network] = true
					nodes = append(nodes, r.node("network."+n.Network, nil, func(ctx context.Context) error { return r.ensureNetwork(ctx, n.Network) }))
				}
			}
		}
		nodes = append(nodes, s.nodes()...)
	}
	if r.plan.Enrol != nil {
		nodes = append(nodes, r.enrolNode())
	}
	return nodes, nil
}

// node wraps a step with its journal entries, events and time.
func (r *run) node(id string, after []string, do func(context.Context) error) dag.Node {
	return dag.Node{ID: id, After: after, Run: func(ctx context.Context) error {
		if err := r.journal.write(entry{Time: r.now(), Event: "begin", Step: id}, true); err != nil {
			return err
		}
		r.emit(Event{Kind: Started, Step: id})
		start := r.now()
		err := do(ctx)
		elapsed := r.now().Sub(start)
		r.mu.Lock()
		r.elapsed[id] = elapsed
		r.mu.Unlock()
		if err != nil {
			r.emit(Event{Kind: Failed, Step: id, Elapsed: elapsed, Text: err.Error()})
			return errors.Join(err, r.journal.write(entry{Time: r.now(), Event: "failed", Step: id}, false))
		}
		r.emit(Event{Kind: Completed, Step: id, Elapsed: elapsed})
		return r.journal.write(entry{Time: r.now(), Event: "done", Step: id}, false)
	}}
}

// progress reports the progress of a step.
func (r *run) progress(step string) image.Progress {
	return func(stage string, done, total int64) {
		r.emit(Event{Kind: Progress, Step: step, Stage: stage, Done: done, Total: total})
	}
}

func (r *run) ensureImage(ctx context.Context, name string) error {
	i := slices.IndexFunc(r.plan.manifest.Images, func(i roles.Image) bool { return i.Name == name })
	if i < 0 {
		return fmt.Errorf("no image %q in the manifest", name)
	}
	step := "image." + name
	img, err := r.Images.Ensure(ctx, ImageSource(r.plan.manifest, r.plan.manifest.Images[i]), r.progress(step))
	if err != nil {
		return err
	}
	if err := r.Hypervisor.EnsurePool(ctx, vm.PoolSpec{Name: Pool, Path: r.DataDir + "/vm_images"}); err != nil {
		return fmt.Errorf("storage pool: %w", err)
	}
	base, err := r.Hypervisor.EnsureBase(ctx, Pool, img, r.progress(step))
	if err != nil {
		return fmt.Errorf("put image into storage pool: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[name], r.bases[name] = img, base
	return nil
}

func (r *run) image(name string) (image.Image, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images[name], r.bases[name]
}

func (r *run) ensureNetwork(ctx context.Context, name string) error {
	net, ok := networkOf(r.plan.manifest, name)
	if !ok {
		return fmt.Errorf("no network %q in the manifest", name)
	}
	if net.NAT == nil {
		return nil // a bridge is the host's own
	}
	return r.Hypervisor.EnsureNetwork(ctx, vm.NetworkSpec{Name: name, Bridge: net.NAT.Bridge, CIDR: net.NAT.CIDR})
}

// accelerator resolves the manifest's accel, with a kernel of our own to try
// KVM on where there is one.
func (r *run) accelerator(ctx context.Context) (vm.Accel, error) {
	kernel := ""
	for _, img := range r.plan.manifest.Images {
		cached, ok, err := r.Images.Lookup(ctx, ImageSource(r.plan.manifest, img))
		if err == nil && ok && cached.Kernel != "" {
			kernel = cached.Kernel
			break
		}
	}
	accel, reason, err := r.Hypervisor.Accelerator(ctx, r.plan.manifest.Host.Accel, kernel)
	if err != nil {
		return "", fmt.Errorf("choose accelerator: %w", err)
	}
	r.emit(Event{Kind: Note, Step: "host", Text: fmt.Sprintf("accelerator: %s (%s)", accel, reason)})
	return accel, nil
}

// report gathers how each role fared, in the order of the plan.
func (r *run) report(nodes []dag.Node, results map[string]error) *Report {
	out := &Report{}
	for _, s := range r.roles {
		rr := RoleReport{Role: s.plan.Role, Action: s.plan.Action}
		prefix := "role." + s.plan.Role + "/"
		fail := func(phase string, err error) {
			if rr.Failed == "" && err != nil && !errors.Is(err, dag.ErrSkipped) {
				rr.Failed, rr.Error, rr.Hint = phase, err.Error(), hint.Of(err)
			}
		}
		var skipped error
		for _, n := range nodes {
			err := results[n.ID]
			if phase, mine := strings.CutPrefix(n.ID, prefix); mine {
				if elapsed, ran := r.elapsed[n.ID]; ran {
					rr.Phases = append(rr.Phases, Phase{phase, elapsed})
				}
				fail(phase, err)
				if errors.Is(err, dag.ErrSkipped) {
					skipped = err
					r.emit(Event{Kind: Skipped, Step: n.ID, Text: err.Error()})
				}
			}
		}
		if rr.Failed == "" && skipped != nil { // a shared step failed
			for _, n := range nodes {
				if s.shares(n.ID) {
					fail(n.ID, results[n.ID])
				}
			}
			switch err := results[enrolStep]; {
			case rr.Failed != "":
			case errors.Is(err, dag.ErrSkipped):
				rr.Failed, rr.Error = enrolStep, err.Error()
			default:
				rr.Failed, rr.Error = "interrupted", skipped.Error()
			}
		}
		out.Roles = append(out.Roles, rr)
	}
	if err := results[enrolStep]; err != nil && !errors.Is(err, dag.ErrSkipped) {
		out.Host = &HostReport{err.Error(), hint.Of(err)}
	}
	return out
}
