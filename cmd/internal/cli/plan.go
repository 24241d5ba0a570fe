package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/provision"
)

// newPlanCommand is `ovsactl plan`.
func newPlanCommand(env Env) *cobra.Command {
	var manifest manifestFlags
	var which selection
	var asJSON, detailed bool
	cmd := &cobra.Command{
		Use:     "plan [FILE...]",
		GroupID: "manifest",
		Short:   "Show what apply would do",
		Long: `Compares the manifest with what the guests were made from, and shows for each
role what would be created, changed in place, restarted or replaced. It changes
nothing and waits for no other run.

With --detailed-exitcode the exit code is 2 when there are changes and 0 when
there are none.`,
		Example: `  ovsactl plan
  ovsactl plan roles.hcl --target runtime --var memory=4GiB
  ovsactl plan --detailed-exitcode >/dev/null || test $? = 2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			manifest.files = args
			m, err := loadManifest(cmd.Context(), env, &manifest)
			if err != nil {
				return err
			}
			engine, done, err := openSiteToRead(cmd.Context(), env, m.Host, which.packages)
			if err != nil {
				return err
			}
			defer done()
			p, err := engine.Plan(cmd.Context(), m, provision.PlanOptions{Targets: which.roles(), Prune: which.prune})
			if err != nil {
				return err
			}
			write := writePlan
			if asJSON {
				write = writePlanJSON
			}
			if err := write(env.Stdout, p); err != nil {
				return err
			}
			if detailed && p.Changed() {
				return exitStatus(exitChanges)
			}
			return nil
		},
	}
	manifest.register(cmd)
	which.register(env, cmd)
	which.registerPrune(cmd)
	registerJSON(cmd, &asJSON)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	return cmd
}

// selection says which roles of a manifest a verb is for.
type selection struct {
	targets  []string
	prune    bool
	packages packagesFlags
}

func (s *selection) register(env Env, cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.targets, "target", nil, "only this `role`, as NAME or role.NAME; may be repeated")
	s.packages.register(cmd)
	if err := cmd.RegisterFlagCompletionFunc("target", completeTargets(env)); err != nil {
		panic(err) // there is no such flag
	}
}

func (s *selection) registerPrune(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.prune, "prune", false, "destroy guests of this data directory that the manifest does not have")
}

// roles are the names of the targeted roles, each once.
func (s *selection) roles() []string {
	var names []string
	for _, t := range s.targets {
		if name := strings.TrimPrefix(t, "role."); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
