package vm_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/vm"
)

// How a guest is reached is kept in its definition, and one that was edited
// into something else makes the domain not ours.
func TestMetadataKeepsHowToReachTheGuest(t *testing.T) {
	want := vm.Metadata{Role: "runtime", Address: netip.MustParseAddr("192.168.122.30"), User: "ovsa", HostKeys: []string{"ssh-ed25519 AAAA"}}
	definition, err := vm.ReplaceMetadata(`<domain type="qemu"><name>ovsa_runtime</name></domain>`, want)
	if err != nil {
		t.Fatal(err)
	}
	state, err := vm.ParseDomain(definition)
	if err != nil || !state.Ours || state.Metadata.Address != want.Address || state.Metadata.User != "ovsa" {
		t.Errorf("%v: %+v", err, state)
	}
	state, err = vm.ParseDomain(strings.Replace(definition, "192.168.122.30", "192.168.122.300", 1))
	if err != nil || state.Ours || !strings.Contains(state.Problem, "address") {
		t.Errorf("%v: %+v", err, state)
	}
}
