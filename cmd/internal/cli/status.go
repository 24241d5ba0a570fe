package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/provision"
)

// newStatusCommand is `ovsactl status`.
func newStatusCommand(env Env) *cobra.Command {
	var manifest manifestFlags
	var packages packagesFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status [FILE...]",
		GroupID: "manifest",
		Short:   "Show each role's guest, vTPM binding, components and drift",
		Long: `Shows each role of the manifest, and guests of the same data directory that it
does not have. The vTPM is bound, stale (bound at an earlier boot of the host),
unbound or missing; "simulated" means that the host's TPM is a stand-in.`,
		Example: `  ovsactl status
  ovsactl status --json | jq -r '.[] | select(.vtpm != "bound") | .role'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			manifest.files = args
			m, err := loadManifest(cmd.Context(), env, &manifest)
			if err != nil {
				return err
			}
			engine, done, err := openSiteToRead(cmd.Context(), env, m.Host, packages)
			if err != nil {
				return err
			}
			defer done()
			list, err := engine.Status(cmd.Context(), m)
			if err != nil {
				return err
			}
			if asJSON {
				return writeIndented(env.Stdout, append([]provision.RoleStatus{}, list...)) // [] and not null
			}
			return writeStatus(env.Stdout, list)
		},
	}
	manifest.register(cmd)
	registerJSON(cmd, &asJSON)
	packages.register(cmd)
	return cmd
}

func writeStatus(w io.Writer, list []provision.RoleStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ROLE\tSTATE\tADDRESS\tUPTIME\tVTPM\tCOMPONENTS\tDRIFT")
	for _, s := range list {
		address := "-"
		if s.Address.IsValid() {
			address = s.Address.String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			s.Role, visible.Text(s.State), address, uptime(s.Uptime), vtpmText(s), componentsText(s), visible.Text(drift(s)))
	}
	return table.Flush()
}

func uptime(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func vtpmText(s provision.RoleStatus) string {
	if s.Simulated && s.State != "absent" {
		return s.VTPM + " (simulated)"
	}
	return s.VTPM
}

func componentsText(s provision.RoleStatus) string {
	var names []string
	for _, c := range s.Components {
		names = append(names, visible.Text(c.Name+" "+c.Version))
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

// drift says how the guest differs from its role.
func drift(s provision.RoleStatus) string {
	var names []string
	for _, c := range s.Drift {
		names = append(names, c.Attribute)
	}
	switch {
	case s.Orphan:
		return "not in the manifest"
	case len(names) > 0:
		return strings.Join(names, ", ") + " (" + string(s.Action) + ")"
	case s.Action == provision.NoAction:
		return "none"
	case s.Reason != "":
		return s.Reason
	}
	return "apply would " + string(s.Action) + " it"
}
