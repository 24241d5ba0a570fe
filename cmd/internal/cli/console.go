package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

func newConsoleCommand(env Env) *cobra.Command {
	var flags hostFlags
	cmd := &cobra.Command{
		Use:   "console ROLE",
		Short: "Connect to a guest's serial console",
		Long: `Console connects to the guest's serial console, which works before the network
does. Leave it with Ctrl-] . Only one console of a guest is open at a time: a
new one ends the old one.`,
		Example:           `  ovsactl console runtime`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				s, err := g.running(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				_, restore, ok, err := rawTerminal(env)
				if err != nil {
					return err
				}
				if ok {
					defer restore()
					fmt.Fprintf(env.Stderr, "Connected to %s. Leave with Ctrl-] ; press Enter for a prompt.\r\n", s.Name)
				}
				return g.hypervisor.Console(cmd.Context(), s.Name, env.Stdin, env.Stdout)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func newScreenshotCommand(env Env) *cobra.Command {
	var flags hostFlags
	cmd := &cobra.Command{
		Use:   "screenshot ROLE FILE",
		Short: "Save what a guest's display shows, as PNG",
		Long: `Screenshot saves what the guest's display shows to FILE, or writes it to standard
output for "-". The guest needs a display: a vnc block in its role.`,
		Example: `  ovsactl screenshot runtime screen.png
  ovsactl screenshot runtime - | file -`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				s, err := g.running(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				png, err := g.hypervisor.Screenshot(cmd.Context(), s.Name)
				if err != nil {
					return err
				}
				if args[1] == "-" {
					_, err = env.Stdout.Write(png)
					return err
				}
				return atomicfile.WriteFile(args[1], png, 0o600) // a display may show anything
			})
		},
	}
	flags.register(cmd)
	return cmd
}
