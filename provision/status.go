package provision

import (
	"context"
	"net/netip"
	"time"

	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// RoleStatus is one line of status.
type RoleStatus struct {
	Role       string               `json:"role"`
	Domain     string               `json:"domain"`
	State      string               `json:"state"` // libvirt's word, or "absent"
	Address    netip.Addr           `json:"address,omitzero"`
	Uptime     time.Duration        `json:"uptime_ns,omitempty"`
	VTPM       string               `json:"vtpm"` // "bound", "stale", "unbound", "missing", "none"
	Simulated  bool                 `json:"simulated,omitempty"`
	Certified  bool                 `json:"certified,omitempty"` // its record has the certificate that the host's key has now
	Components []vm.ComponentRecord `json:"components,omitempty"`
	Drift      []Change             `json:"drift,omitempty"` // what apply would change
	Action     Action               `json:"action"`          // what apply would do
	Reason     string               `json:"reason,omitempty"`
	Orphan     bool                 `json:"orphan,omitempty"` // not in the manifest
}

// Status describes the roles of m and what else of ours is on the host. It
// changes nothing and waits for no lock.
func (e *Engine) Status(ctx context.Context, m *roles.Manifest) ([]RoleStatus, error) {
	p, err := e.Plan(ctx, m, PlanOptions{Prune: true})
	if err != nil {
		return nil, err
	}
	var out []RoleStatus
	for _, rp := range p.Roles {
		s := RoleStatus{
			Role: rp.Role, Domain: DomainName(rp.Role), State: "absent", VTPM: "none",
			Action: rp.Action, Reason: rp.Reason, Orphan: rp.Action == Delete,
			Address: rp.state.Metadata.Address, Components: rp.state.Metadata.Components,
		}
		if rp.state.Exists {
			s.State = rp.state.Status
			s.Drift = rp.Changes
		}
		started := rp.state.StartedAt
		if rp.role.VTPM != nil || s.Orphan {
			uuid := rp.state.UUID
			if uuid == "" {
				uuid = DomainUUID(m.Host.Name, rp.Role)
			}
			status, err := e.TPM.Status(ctx, uuid)
			if err != nil {
				return nil, err
			}
			s.VTPM, s.Simulated, s.Certified = string(status.Binding), status.Simulated, status.Certified
			if started.IsZero() {
				// Somebody else started it, or a run that died just after:
				// every start renews the binding, and a running guest's
				// cannot be renewed.
				started = status.BoundAt
			}
		}
		if !started.IsZero() && rp.state.Active {
			s.Uptime = e.now().Sub(started).Truncate(time.Second)
		}
		out = append(out, s)
	}
	return out, nil
}
