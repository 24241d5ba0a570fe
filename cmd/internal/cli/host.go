package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/roles"
)

// hostFlags says which host a verb works on: the host block of a manifest,
// which single flags override. Verbs that take a role but no manifest use it.
type hostFlags struct {
	file    string
	uri     string
	dataDir string
	tpm     string
}

func (f *hostFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "manifest whose host block to use (default roles.hcl where it exists)")
	flags.StringVar(&f.uri, "connect", "", "libvirt URI (default qemu:///system)")
	flags.StringVar(&f.dataDir, "data-dir", "", "data directory (default /var/OVSA)")
	flags.StringVar(&f.tpm, "tpm", "", "host TPM: a device, or unix:PATH (default $OVSACTL_TPM or /dev/tpmrm0)")
}

// resolve returns the host, complete with defaults. Only the host block of the
// manifest matters, but one that does not parse is told and an exitStatus.
func (f *hostFlags) resolve(env Env) (roles.Host, error) {
	host, files, diags := roles.LoadHost(f.manifest(), roles.Options{
		Getenv:     env.Getenv,
		DefaultTPM: env.Getenv("OVSACTL_TPM"),
	})
	if err := reportDiagnostics(env, files, diags); err != nil {
		return roles.Host{}, err
	}
	host.URI = cmp.Or(f.uri, host.URI)
	host.DataDir = cmp.Or(f.dataDir, host.DataDir)
	host.TPM = cmp.Or(f.tpm, host.TPM)
	if !filepath.IsAbs(host.DataDir) {
		return roles.Host{}, usageError(fmt.Sprintf("data directory %q is not an absolute path", host.DataDir), "for example: --data-dir /var/OVSA")
	}
	return host, nil
}

// manifest names the files to read the host block from: none where no file is
// named and there is no roles.hcl.
func (f *hostFlags) manifest() []string {
	if f.file != "" {
		return []string{f.file}
	}
	if _, err := os.Stat(defaultManifest); err != nil {
		return nil
	}
	return []string{defaultManifest}
}
