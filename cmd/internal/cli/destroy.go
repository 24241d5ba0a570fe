package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// newDestroyCommand is `ovsactl destroy`.
func newDestroyCommand(env Env) *cobra.Command {
	var manifest manifestFlags
	var which selection
	var how changeFlags
	cmd := &cobra.Command{
		Use:     "destroy [FILE...]",
		GroupID: "manifest",
		Short:   "Remove the manifest's guests with all that is theirs",
		Long: `Removes each role's domain, NVRAM, virtual TPM, disk, seed, reservation and known
host, from whatever state it is in, and nothing else. Images stay in the cache.
A virtual TPM that is gone cannot be made again: what was sealed to it is lost.`,
		Example: `  ovsactl destroy roles.hcl
  ovsactl destroy --target runtime --auto-approve`,
		RunE: func(cmd *cobra.Command, args []string) error {
			manifest.files = args
			return change{env: env, manifest: &manifest, which: which, how: how, question: "Destroy these guests and their data?",
				plan: func(ctx context.Context, e *provision.Engine, m *roles.Manifest) (*provision.Plan, error) {
					return e.PlanDestroy(ctx, m, which.roles())
				},
			}.run(cmd.Context())
		},
	}
	manifest.register(cmd)
	which.register(env, cmd)
	how.register(cmd)
	return cmd
}
