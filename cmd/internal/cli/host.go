package cli

import (
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

// resolve returns the host, complete with defaults.
func (f *hostFlags) resolve(env Env) (roles.Host, error) {
	host := roles.Host{Name: "local", URI: "qemu:///system", DataDir: "/var/OVSA", Accel: "auto", TPM: "/dev/tpmrm0"}
	if t := env.Getenv("OVSACTL_TPM"); t != "" {
		host.TPM = t
	}
	if f.uri != "" {
		host.URI = f.uri
	}
	if f.dataDir != "" {
		host.DataDir = f.dataDir
	}
	if f.tpm != "" {
		host.TPM = f.tpm
	}
	return host, nil
}
