package cli

import (
	"context"
	"os"
	"time"

	"github.com/ovsactl/ovsactl/internal/lab"
	"github.com/ovsactl/ovsactl/internal/run"
)

// labParts wires a lab: what plays the host's TPM, and how its host is prepared.
func labParts() lab.Parts {
	return lab.Parts{
		StartTPM: startLabTPM,
		PrepareHost: func(ctx context.Context, dataDir string) error {
			return nil
		},
		PrepareLibvirt: func(ctx context.Context, dataDir string) error {
			return nil
		},
	}
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
