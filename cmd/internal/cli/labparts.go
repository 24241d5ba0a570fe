package cli

import (
	"context"
	"errors"

	"github.com/ovsactl/ovsactl/internal/hostcheck"
	"github.com/ovsactl/ovsactl/internal/lab"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// labParts wires a lab: what plays the host's TPM, and how its host is prepared.
func labParts(dataDir string) lab.Parts {
	return lab.Parts{
		StartTPM: startLabTPM,
		Attest:   []string{"host", "attest", "--data-dir", dataDir, "--tpm", lab.TPMAddress},
		Socket:   vm.AttestSocket,
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
