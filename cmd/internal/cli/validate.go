package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/diag"
	"github.com/ovsactl/ovsactl/roles"
)

func newValidateCommand(env Env) *cobra.Command {
	var flags manifestFlags
	asJSON := false
	cmd := &cobra.Command{
		Use:     "validate [FILE...]",
		GroupID: "manifest",
		Short:   "Check a manifest and touch nothing",
		Long: `Validate reads a manifest (roles.hcl where none is named, "-" for standard
input), evaluates it and checks all that can be known without the host.
It exits with 3 when the manifest is bad.`,
		Example: `  ovsactl validate
  ovsactl validate --var memory=2GiB roles.hcl
  ovsactl validate --json - < roles.hcl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.files = args
			if asJSON {
				return validateJSON(cmd.Context(), env, &flags)
			}
			m, err := loadManifest(cmd.Context(), env, &flags)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: %s\n", strings.Join(flags.names(), ", "), summary(m))
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// validation is the JSON of validate.
type validation struct {
	Valid       bool              `json:"valid"`
	Diagnostics []diag.Diagnostic `json:"diagnostics"`
}

func validateJSON(ctx context.Context, env Env, flags *manifestFlags) error {
	l, err := flags.load(ctx, env)
	if err != nil {
		return err
	}
	v := validation{Valid: !l.diags.HasErrors(), Diagnostics: diag.List(l.files, l.diags)}
	if err := writeIndented(env.Stdout, v); err != nil {
		return err
	}
	if !v.Valid {
		return exitStatus(exitManifest)
	}
	return nil
}

// registerJSON adds the flag of verbs that print one value for programs.
func registerJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// summary counts what a manifest declares.
func summary(m *roles.Manifest) string {
	count := func(n int, noun string) string {
		if n != 1 {
			noun += "s"
		}
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("valid: %s, %s, %s", count(len(m.Roles), "role"), count(len(m.Images), "image"), count(len(m.Networks), "network"))
}
