package cli

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm"
)

// binder records which vTPMs were bound.
type binder struct {
	provision.TPMHost
	bound []vtpm.Identity
	err   error
}

func (b *binder) Bind(_ context.Context, id vtpm.Identity) error {
	b.bound = append(b.bound, id)
	return b.err
}

func TestHookBindsOurGuestsAlone(t *testing.T) {
	const uuid = "11111111-2222-4333-8444-555555555555"
	spec := vm.Spec{
		Name: "ovsa_runtime", UUID: uuid, CPUs: 1, Memory: 1 << 30, Accel: vm.TCG, Firmware: vm.BIOS, TPM: vm.CRB,
		Metadata: vm.Metadata{Role: "runtime", DataDir: "/var/OVSA"},
	}
	noTPM, elsewhere := spec, spec
	noTPM.TPM = ""
	elsewhere.Metadata.DataDir = "/srv/other"
	render := func(s vm.Spec) string {
		text, err := vm.DomainXML(s)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct {
		name, definition string
		binds, fails     bool
	}{
		{"ours", render(spec), true, false},
		{"ours without a TPM", render(noTPM), false, false},
		{"of another data directory", render(elsewhere), false, false},
		{"somebody else's", `<domain><name>x</name><uuid>` + uuid + `</uuid><devices><tpm model="tpm-crb"/></devices></domain>`, false, false},
		{"no definition", "", false, true},
		{"too large", strings.Repeat(" ", maxHookXML+1), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &binder{}
			err := renewBinding(t.Context(), strings.NewReader(tt.definition), "/var/OVSA", b)
			if (len(b.bound) == 1) != tt.binds || (err != nil) != tt.fails {
				t.Errorf("bound %v, error %v", b.bound, err)
			}
			if tt.binds && b.bound[0] != (vtpm.Identity{UUID: uuid, Name: "ovsa_runtime"}) {
				t.Errorf("bound %+v", b.bound)
			}
		})
	}
	broken := &binder{err: errors.New("lockout")}
	if err := renewBinding(t.Context(), strings.NewReader(render(spec)), "/var/OVSA", broken); err == nil {
		t.Error("a guest starts that could not be bound")
	}
}
