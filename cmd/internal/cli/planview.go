package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/provision"
)

// planColumn is where the comments of a plan begin.
const planColumn = 36

// writePlan writes a plan for people.
func writePlan(w io.Writer, p *provision.Plan) error {
	var b strings.Builder
	for _, img := range p.Images {
		if !img.Cached {
			planHead(&b, "+", "image."+img.Name, "will be made: it is not in the cache")
		}
	}
	if e := p.Enrol; e != nil {
		writeEnrolPlan(&b, e)
	}
	for _, r := range p.Roles {
		if r.Action != provision.NoAction {
			writeRolePlan(&b, r)
		}
	}
	if !p.Changed() {
		fmt.Fprintf(&b, "No changes. %s.\n", compared(len(p.Roles)))
	} else {
		fmt.Fprintln(&b, planCount(p))
	}
	if len(p.Orphans) > 0 {
		fmt.Fprintf(&b, "Not in the manifest and left alone: %s. --prune destroys them.\n", strings.Join(p.Orphans, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// compared says what "no changes" rests on.
func compared(roles int) string {
	if roles == 1 {
		return "The role was compared with what its guest was made from, its components' digests and its vTPM's binding"
	}
	return fmt.Sprintf("%d roles were compared with what their guests were made from, their components' digests and their vTPMs' bindings", roles)
}

func planCount(p *provision.Plan) string {
	blocked := ""
	if n := p.Count(provision.Blocked); n > 0 {
		blocked = fmt.Sprintf(", %d blocked", n)
	}
	return fmt.Sprintf("Plan: %d to create, %d to change, %d to replace, %d to destroy%s.", p.Count(provision.Create),
		p.Count(provision.Update)+p.Count(provision.Reboot)+p.Count(provision.Finish),
		p.Count(provision.Remake), p.Count(provision.Delete), blocked)
}

func planHead(b *strings.Builder, symbol, address, comment string) {
	fmt.Fprintf(b, "%3s %-*s # %s\n", symbol, planColumn-4, address, visible.Text(comment))
}

func writeEnrolPlan(b *strings.Builder, e *provision.EnrolPlan) {
	planHead(b, "+", "host", because("its attestation key will be certified by "+e.Server, e.Reason))
	if e.Vendor != "" {
		simulated := ""
		if e.Simulated {
			simulated = ", which is a stand-in"
		}
		fmt.Fprintf(b, "      %s will believe = %s, the maker of this host's TPM%s\n", e.Server, visible.Text(e.Vendor), simulated)
	}
	fmt.Fprintln(b)
}

func writeRolePlan(b *strings.Builder, r provision.RolePlan) {
	symbol, comment := planWords(r)
	planHead(b, symbol, "role."+r.Role, comment)
	longest := 0
	for _, c := range r.Changes {
		longest = max(longest, len(c.Attribute))
	}
	for _, c := range r.Changes {
		line := fmt.Sprintf("      %-*s = %s", longest, visible.Text(c.Attribute), changeText(r.Action, c))
		if r.Action == provision.Remake && c.Effect == provision.Replace {
			line = fmt.Sprintf("%-*s # forces replacement", planColumn, line)
		}
		fmt.Fprintln(b, line)
	}
	fmt.Fprintln(b)
}

// planWords are the symbol of an action and what it means for the role.
func planWords(r provision.RolePlan) (symbol, comment string) {
	switch r.Action {
	case provision.Create:
		return "+", "will be created"
	case provision.Update:
		return "~", "will be changed in place"
	case provision.Reboot:
		return "~", because("will be restarted", r.Reason)
	case provision.Finish:
		return "~", because("will be finished", r.Reason)
	case provision.Remake:
		return "-/+", because("must be replaced", replaceReason(r))
	case provision.Blocked:
		return "!", because("cannot be made", r.Reason)
	case provision.Delete:
		return "-", because("will be destroyed", r.Reason)
	}
	return " ", "unchanged"
}

func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// replaceReason names what cannot change.
func replaceReason(r provision.RolePlan) string {
	var names []string
	for _, c := range r.Changes {
		if c.Effect == provision.Replace && !slices.Contains(names, c.Attribute) {
			names = append(names, c.Attribute)
		}
	}
	if len(names) == 0 {
		return r.Reason
	}
	return strings.Join(names, ", ") + " cannot change"
}

func changeText(a provision.Action, c provision.Change) string {
	before, after := visible.Text(c.Old), visible.Text(c.New)
	switch {
	case a == provision.Create || c.Old == "":
		return after
	case c.New == "":
		return before + " -> (none)"
	}
	return before + " -> " + after
}

// planJSON is --json of plan.
type planJSON struct {
	Changed bool `json:"changed"`
	*provision.Plan
}

func writePlanJSON(w io.Writer, p *provision.Plan) error {
	return writeIndented(w, planJSON{p.Changed(), p})
}
