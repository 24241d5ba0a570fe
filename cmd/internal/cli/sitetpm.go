package cli

import (
	"context"
	"errors"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vtpm"
)

// openTPM opens the host door for virtual TPMs.
func openTPM(roles.Host) (provision.TPMHost, error) { return noTPM{}, nil }

// noTPM is a build without virtual TPMs.
type noTPM struct{}

var errNoTPM = errors.New("this build of ovsactl makes no virtual TPMs")

func (noTPM) Manufacture(context.Context, vtpm.Identity) error { return errNoTPM }
func (noTPM) Bind(context.Context, vtpm.Identity) error        { return errNoTPM }
func (noTPM) Remove(context.Context, string) error             { return nil }
func (noTPM) Status(context.Context, string) (vtpm.Status, error) {
	return vtpm.Status{Binding: vtpm.Missing, Reason: errNoTPM.Error()}, nil
}
