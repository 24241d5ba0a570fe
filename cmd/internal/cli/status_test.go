package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Programs read these: every key is in snake case.
func TestJSONKeys(t *testing.T) {
	key := regexp.MustCompile(`"([^"]+)":`)
	for name, v := range map[string]any{
		"status": provision.RoleStatus{
			Role: "a", Uptime: time.Second, Components: []vm.ComponentRecord{{Name: "developer"}}, Drift: []provision.Change{{Attribute: "cpus"}},
		},
		"report": provision.Report{Roles: []provision.RoleReport{{Phases: []provision.Phase{{Name: "disk"}}}}},
		"show": vtpm.Info{
			Claims: quote.Claims{EKs: []quote.EKClaim{{Name: "00"}}}, PCRs: []vtpm.PCR{{Index: 1}}, Clock: &quote.Clock{},
		},
		"verify": vtpm.Verification{Result: quote.Result{Steps: []quote.Step{{Name: "record"}}, Clock: &quote.Clock{}, GuestClock: &quote.Clock{}}},
	} {
		var b bytes.Buffer
		if err := writeIndented(&b, v); err != nil {
			t.Fatal(err)
		}
		for _, m := range key.FindAllStringSubmatch(b.String(), -1) {
			if m[1] != strings.ToLower(m[1]) {
				t.Errorf("%s: key %q", name, m[1])
			}
		}
	}
}
