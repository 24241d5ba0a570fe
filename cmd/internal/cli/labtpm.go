package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vtpm"
)

// localCA is where swtpm_localca keeps the CA that it makes, a lab's own.
const localCA = "/var/lib/swtpm-localca"

// startLabTPM makes a TPM with an endorsement key certificate, starts it at
// socket, and makes the data directory trust the CA that certified it.
func startLabTPM(ctx context.Context, dir, socket, dataDir string) error {
	err := run.Cmd{Path: "swtpm_setup", Args: []string{
		"--tpm2", "--tpm-state", dir, "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram",
	}}.Run(ctx)
	if err != nil {
		return err
	}
	trust := filepath.Join(dataDir, "vtpm", "trust")
	if err := os.MkdirAll(trust, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuercert.pem"} {
		cert, err := os.ReadFile(filepath.Join(localCA, name))
		if err != nil {
			return fmt.Errorf("trust the lab's TPM: %w", err)
		}
		if err := atomicfile.WriteFile(filepath.Join(trust, "lab-"+name), cert, 0o644); err != nil {
			return err
		}
	}
	tpm, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--server", "type=unixio,path=" + socket, "--ctrl", "type=unixio,path=" + socket + ".ctrl",
		"--flags", "not-need-init,startup-clear",
	}, Stderr: os.Stderr}.Start(ctx)
	if err != nil {
		return err
	}
	go tpm.Wait() // it ends with the lab
	if err := waitSocket(ctx, socket); err != nil {
		return err
	}
	return vtpm.MeasureStandIn(ctx, "unix:"+socket)
}

func waitSocket(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("does not answer"))
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
