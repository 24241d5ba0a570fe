package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/ovsactl/ovsactl/internal/hostcheck"
	"github.com/ovsactl/ovsactl/internal/lab"
	"github.com/ovsactl/ovsactl/internal/run"
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

func startLabTPM(ctx context.Context, dir, socket, dataDir string) error {
	_, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--server", "type=unixio,path=" + socket, "--ctrl", "type=unixio,path=" + socket + ".ctrl",
		"--flags", "not-need-init,startup-clear",
	}, Stderr: os.Stderr}.Start(ctx)
	time.Sleep(50 * time.Millisecond)
	return err
}
