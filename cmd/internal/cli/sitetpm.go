package cli

import (
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vtpm"
)

var _ provision.TPMHost = (*vtpm.Host)(nil)

// openTPM opens the host door for virtual TPMs.
func openTPM(host roles.Host) (*vtpm.Host, error) {
	return vtpm.Open(vtpm.Options{DataDir: host.DataDir, TPM: host.TPM})
}
