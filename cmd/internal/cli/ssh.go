package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/remote"
)

// defaultConnect is how long a guest that should be up may take to answer.
const defaultConnect = 15 * time.Second

func (l *login) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.user, "login", "l", "", "`user` to log in as (default: the role's, ovsa)")
	cmd.Flags().DurationVar(&l.timeout, "connect-timeout", defaultConnect, "how long to wait for the guest to answer")
}

func newSSHCommand(env Env) *cobra.Command {
	var flags hostFlags
	var how login
	tty := false
	cmd := &cobra.Command{
		Use:   "ssh [flags] ROLE [-- COMMAND [ARG...]]",
		Short: "Log in to a guest, or run a command in it",
		Long: `Ssh logs in to the guest of a role with the key of the data directory. The
guest's host key was read over a channel that only its host has, so the first
login is verified like any other.

With a command it runs that, with its arguments exactly as they are here, and
exits with its exit status.`,
		Example: `  ovsactl ssh runtime
  ovsactl ssh runtime -- systemctl is-system-running
  tar c models | ovsactl ssh isv_dev -- tar x`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, argv := args[0], args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				conn, err := g.connect(cmd.Context(), role, how)
				if err != nil {
					return err
				}
				defer conn.Close()
				return passExit(runSSH(cmd.Context(), env, conn, argv, tty))
			})
		},
	}
	flags.register(cmd)
	how.register(cmd)
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	cmd.Flags().SetInterspersed(false) // what comes after ROLE is the command's
	return cmd
}

// runSSH is interactive where there is a terminal and no command.
func runSSH(ctx context.Context, env Env, conn *remote.Conn, argv []string, tty bool) error {
	if len(argv) == 0 || tty {
		terminal, restore, ok, err := rawTerminal(env)
		if err != nil {
			return err
		}
		if ok {
			defer restore()
			return conn.Shell(ctx, terminal, argv...)
		}
	}
	if len(argv) == 0 {
		argv = []string{"sh"} // reads its commands from standard input
	}
	return conn.Run(ctx, argv, env.Stdin, env.Stdout, env.Stderr)
}

// completeOneRole completes the first argument, a role.
func completeOneRole(env Env) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	roles := completeRoles(env)
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return roles(cmd, args, toComplete)
	}
}
