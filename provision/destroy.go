package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// PlanDestroy plans the removal of the targeted roles, of all of m's when there
// is no target. A role without a domain is in it too: something else of it may
// be left. Those of other manifests are never touched.
func (e *Engine) PlanDestroy(ctx context.Context, m *roles.Manifest, targets []string) (*Plan, error) {
	chosen, err := choose(m, targets)
	if err != nil {
		return nil, err
	}
	domains, err := e.Hypervisor.Domains(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]vm.State, len(domains))
	for _, d := range domains {
		seen[d.Name] = d
	}
	p := &Plan{manifest: m}
	var problems []error
	for _, r := range chosen {
		d := seen[DomainName(r.Name)]
		if err := foreign(d, m.Host.DataDir); err != nil {
			problems = append(problems, err)
			continue
		}
		rp := RolePlan{Role: r.Name, Action: Delete, role: r, intent: newIntent(m, r), state: d}
		if !d.Exists {
			rp.Reason = "it has no guest, only what may be left of one"
		}
		p.Roles = append(p.Roles, rp)
	}
	return p, errors.Join(problems...)
}

// removeRole removes the domain, then everything else of the role, and base
// volumes that nobody uses any more.
func (s *roleRun) removeRole(ctx context.Context, state vm.State, all []owned) error {
	if id := state.Metadata.Authority; id != "" {
		// Its key is gone with the guest's disk. This comes before the domain is gone,
		// which alone remembers it.
		if err := s.Attestation.Distrust(id); err != nil {
			return err
		}
	}
	if state.Exists {
		if err := s.Hypervisor.Undefine(ctx, s.domain()); err != nil {
			return err
		}
	}
	var errs []error
	for _, o := range all {
		errs = append(errs, s.release(ctx, o))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.plan.Action != Delete {
		return nil
	}
	return s.removeUnusedBases(ctx)
}

// removeUnusedBases removes the base volumes of images that no guest of ours is
// made from and no step of this run makes one from.
func (r *run) removeUnusedBases(ctx context.Context) error {
	r.tidying.Lock()
	defer r.tidying.Unlock()
	domains, err := r.Hypervisor.Domains(ctx)
	if err != nil {
		return err
	}
	volumes, err := r.Hypervisor.Volumes(ctx, Pool)
	if errors.Is(err, vm.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, v := range volumes {
		used := !strings.HasPrefix(v, basePrefix) || r.usesBases()
		for _, d := range domains {
			used = used || d.Ours && isBaseOf(v, d.Metadata.Image)
		}
		if used {
			continue
		}
		if err := r.Hypervisor.DeleteVolume(ctx, Pool, v); err != nil {
			return fmt.Errorf("remove base volume %q: %w", v, err)
		}
	}
	return nil
}

// usesBases tells whether the run makes guests as well as it removes some.
func (r *run) usesBases() bool {
	for _, s := range r.roles {
		if s.plan.Action != Delete {
			return true
		}
	}
	return false
}

// basePrefix begins the names of base volumes; the image's digest follows.
const basePrefix = "base-"

// isBaseOf tells whether a volume is the base of the image with this digest.
func isBaseOf(volume, digest string) bool {
	hex := strings.TrimPrefix(digest, "sha256:")
	return len(hex) >= 16 && strings.HasPrefix(volume, basePrefix+hex[:16]+".")
}
