package provision

import (
	"strings"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// Effect is what a change does to a running guest. A greater one includes the
// lesser ones.
type Effect int

const (
	None    Effect = iota
	InPlace        // the guest keeps running
	Restart        // shut down, changed, started; its disk and vTPM stay
	Replace        // removed with its disk and made anew
)

func (e Effect) String() string {
	return [...]string{"none", "in place", "restart", "replace"}[e]
}

// MarshalText gives the word that String gives.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Action is what apply does with a role.
type Action string

const (
	NoAction Action = "none"
	Create   Action = "create"
	Finish   Action = "finish" // an earlier run made part of it, or it is shut off
	Update   Action = "update" // in place
	Reboot   Action = "restart"
	Remake   Action = "replace"
	Delete   Action = "destroy"
	Blocked  Action = "blocked" // something that is not ours is in the way: it fails, and touches nothing
)

// Change is one attribute that differs. An empty Old or New means absent.
type Change struct {
	Attribute string `json:"attribute"`
	Old       string `json:"old"`
	New       string `json:"new"`
	Effect    Effect `json:"effect"`
}

// RolePlan is what apply would do with one role.
type RolePlan struct {
	Role    string   `json:"role"`
	Action  Action   `json:"action"`
	Reason  string   `json:"reason,omitempty"` // for Finish: what is missing; for Blocked: what is in the way
	Changes []Change `json:"changes,omitempty"`

	role     roles.Role
	intent   intent
	state    vm.State
	packages []component.Package // as role.Components
	blocked  error
	renew    bool // a Reboot for its binding alone: all else is as it should be, or changes in place
}

// block makes the role fail for what is in its way.
func (rp *RolePlan) block(why error) {
	rp.Action, rp.Changes, rp.blocked = Blocked, nil, why
	rp.Reason = strings.ReplaceAll(why.Error(), "\n", "; ")
}

// ImagePlan is an image that a role needs.
type ImagePlan struct {
	Name   string `json:"name"`
	Cached bool   `json:"cached"`
}

// Plan is what apply would do. It is a snapshot: apply it under the lock that
// it was made under.
type Plan struct {
	Roles  []RolePlan  `json:"roles"`
	Images []ImagePlan `json:"images,omitempty"` // of roles that are created or replaced
	Enrol  *EnrolPlan  `json:"enrol,omitempty"`  // nil: the host has what it needs, or nothing says with whom
	// Orphans are guests of this host and data directory that the manifest does
	// not have. They are left alone unless asked for.
	Orphans []string `json:"orphans,omitempty"`

	manifest  *roles.Manifest
	certified bool // the host's attestation key, as far as the plan knows
}

// Changed tells whether apply would do anything.
func (p *Plan) Changed() bool {
	for _, r := range p.Roles {
		if r.Action != NoAction {
			return true
		}
	}
	return p.Enrol != nil
}

// Count is the number of roles with an action.
func (p *Plan) Count(a Action) int {
	n := 0
	for _, r := range p.Roles {
		if r.Action == a {
			n++
		}
	}
	return n
}

// PlanOptions select what is planned.
type PlanOptions struct {
	Targets []string // role names; none means all
	Prune   bool     // destroy orphans
}

// decide says what a role needs, from what it should be and what is seen.
func decide(rp *RolePlan) {
	seen := rp.state
	if !seen.Exists {
		rp.Action = Create
		for _, a := range rp.intent.attributes() {
			rp.Changes = append(rp.Changes, Change{Attribute: a.name, New: a.value, Effect: None})
		}
		for _, c := range componentChanges(rp, intent{}) {
			c.Effect = None
			rp.Changes = append(rp.Changes, c)
		}
		return
	}
	old, err := decodeIntent(seen.Metadata.Intent)
	if err != nil {
		rp.Action, rp.Reason = Remake, err.Error()
		return
	}
	rp.Changes = append(rp.intent.compare(old), componentChanges(rp, old)...)
	effect := None
	for _, c := range rp.Changes {
		effect = max(effect, c.Effect)
	}
	rp.Reason = unfinished(seen)
	switch {
	case effect == Replace:
		rp.Action = Remake
	case effect == Restart && seen.Active:
		rp.Action = Reboot
	case effect == Restart || rp.Reason != "":
		rp.Action = Finish
	case effect == InPlace:
		rp.Action = Update
	default:
		rp.Action = NoAction
	}
}

// unfinished names what keeps a domain that is as it should be from being ready.
func unfinished(s vm.State) string {
	switch {
	case !s.Active:
		return "it is not running (" + s.Status + ")"
	case s.Stale:
		return "it runs from an older definition"
	case len(s.Metadata.HostKeys) == 0:
		return "it was never reached"
	}
	return ""
}

// componentChanges compares what the guest has installed with the tarballs.
func componentChanges(rp *RolePlan, old intent) []Change {
	var changes []Change
	for i, pkg := range rp.packages {
		name := "component." + rp.role.Components[i].Name
		record, installed := installedComponent(rp.state.Metadata, rp.role.Components[i].Name)
		switch {
		case !installed:
			changes = append(changes, Change{name, "", pkg.Version, InPlace})
		case record.Digest != pkg.Digest && record.Version == pkg.Version:
			changes = append(changes, Change{name, short(record.Digest), short(pkg.Digest), InPlace})
		case record.Digest != pkg.Digest:
			changes = append(changes, Change{name, record.Version, pkg.Version, InPlace})
		}
	}
	for _, c := range old.Components {
		if !hasComponent(rp.role, c.Name) {
			record, _ := installedComponent(rp.state.Metadata, c.Name)
			// Nobody can say that an installer's effects are undone: the guest is.
			changes = append(changes, Change{"component." + c.Name, record.Version, "", Replace})
		}
	}
	return changes
}

func installedComponent(m vm.Metadata, name string) (vm.ComponentRecord, bool) {
	for _, c := range m.Components {
		if c.Name == name {
			return c, true
		}
	}
	return vm.ComponentRecord{}, false
}

func short(digest string) string { return digest[:min(12, len(digest))] }

func hasComponent(r roles.Role, name string) bool {
	for _, c := range r.Components {
		if c.Name == name {
			return true
		}
	}
	return false
}
