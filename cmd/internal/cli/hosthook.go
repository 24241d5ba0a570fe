package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm"
)

// maxHookXML bounds the definition that libvirt hands to its hook.
const maxHookXML = 4 << 20

// newHostHookCommand is what libvirt's hook runs. It is called with libvirt's
// locks held and must not call libvirt.
func newHostHookCommand(env Env) *cobra.Command {
	var host roles.Host
	cmd := &cobra.Command{
		Use:    "hook -- GUEST OPERATION SUB-OPERATION EXTRA",
		Short:  "Renew the binding of a guest's vTPM before it starts",
		Hidden: true,
		Args:   cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "prepare" || args[2] != "begin" {
				return nil
			}
			tpm, err := openTPM(host)
			if err != nil {
				return err
			}
			return renewBinding(cmd.Context(), env.Stdin, host.DataDir, tpm)
		},
	}
	cmd.Flags().StringVar(&host.DataDir, "data-dir", "/var/OVSA", "data directory")
	cmd.Flags().StringVar(&host.TPM, "tpm", "/dev/tpmrm0", "host TPM: a device, or unix:PATH")
	return cmd
}

// renewBinding binds the vTPM of the guest whose definition is read from
// definition, if that is ours, of this data directory, and has one. An error
// keeps the guest from starting.
func renewBinding(ctx context.Context, definition io.Reader, dataDir string, tpm provision.TPMHost) error {
	text, err := io.ReadAll(io.LimitReader(definition, maxHookXML+1))
	if err != nil {
		return fmt.Errorf("read the guest's definition: %w", err)
	}
	if len(text) > maxHookXML {
		return errors.New("read the guest's definition: it is too large")
	}
	s, err := vm.ParseDomain(string(text))
	if err != nil {
		return err
	}
	if !s.Ours || s.Metadata.DataDir != dataDir || s.TPM == "" {
		return nil
	}
	return tpm.Bind(ctx, vtpm.Identity{UUID: s.UUID, Name: s.Name})
}
