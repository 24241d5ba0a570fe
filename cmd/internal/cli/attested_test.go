package cli

import (
	"testing"

	"github.com/ovsactl/ovsactl/vm"
)

// A host vouches for the guests of its data directory, and not for what else runs
// on it.
func TestAttestedDomain(t *testing.T) {
	const uuid = "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11"
	for name, tt := range map[string]struct {
		state vm.State
		want  string
	}{
		"ours":                  {vm.State{UUID: uuid, Ours: true, Metadata: vm.Metadata{DataDir: "/var/OVSA"}}, uuid},
		"somebody's":            {vm.State{UUID: uuid}, ""},
		"somebody's, that lies": {vm.State{UUID: uuid, Metadata: vm.Metadata{DataDir: "/var/OVSA"}}, ""},
		"another directory's":   {vm.State{UUID: uuid, Ours: true, Metadata: vm.Metadata{DataDir: "/var/OVSA2"}}, ""},
		"no directory's":        {vm.State{UUID: uuid, Ours: true}, ""},
	} {
		got, err := attested(tt.state, "/var/OVSA")
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
