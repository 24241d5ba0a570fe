package cli

import (
	"context"
	"errors"

	"github.com/ovsactl/ovsactl/internal/hostcheck"
	"github.com/ovsactl/ovsactl/internal/lab"
	"github.com/ovsactl/ovsactl/roles"
)

// labParts wires a lab: what plays the host's TPM, and how its host is prepared.
func labParts() lab.Parts {
	return lab.Parts{
		StartTPM: startLabTPM,
		PrepareHost: func(_ context.Context, dataDir string) error {
			h, err := labHost(dataDir)
			if err != nil {
				return err
			}
			return errors.Join(h.MakeDirs(), h.InstallHook())
		},
		PrepareLibvirt: func(ctx context.Context, dataDir string) error {
			h, err := labHost(dataDir)
			if err != nil {
				return err
			}
			return h.StartNetwork(ctx)
		},
	}
}

// labHost is the machine inside a lab.
func labHost(dataDir string) (hostcheck.Host, error) {
	return localHost(roles.Host{URI: "qemu:///system", DataDir: dataDir, TPM: lab.TPMAddress})
}
