package cli

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/lab"
)

// newLabCommand is `ovsactl lab`: a host of its own inside this one.
func newLabCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A second host inside this one, to try things in",
		Long: `A lab is a host inside this machine: its own mounts, network and processes, its
own libvirt, and a software TPM (shown as "simulated") in the place of the
host's. Nothing outside changes but the image cache, which both sides share, and
everything in it is in memory and gone after "lab down".

A lab's network has no way out. Build or fetch images outside first.`,
		Example: `  ovsactl lab up
  ovsactl lab run -- ovsactl apply roles.hcl --auto-approve
  ovsactl lab shell
  ovsactl lab down`,
	}
	name := cmd.PersistentFlags().String("name", "default", "which lab")
	cmd.AddCommand(
		newLabUpCommand(env, name), newLabRunCommand(env, name), newLabShellCommand(env, name),
		newLabListCommand(env), newLabDownCommand(env, name),
	)
	cmd.AddCommand(labInnerCommands(env, name)...)
	return cmd
}

func newLabUpCommand(env Env, name *string) *cobra.Command {
	var host hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab; one that runs is left alone",
		Long: `Starts a lab and waits until its libvirt and its TPM answer. Needs root. The data
directory is the lab's own, except for the image cache in it.`,
		Example: `  ovsactl lab up
  ovsactl lab up --name second`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := host.resolve(env)
			if err != nil {
				return err
			}
			begin := time.Now()
			l, started, err := lab.Up(cmd.Context(), lab.Options{
				Name: *name, DataDir: h.DataDir,
				Holder: labInner("hold", *name, h.DataDir),
				Step:   func(s string) { fmt.Fprintf(env.Stderr, "lab %s: %s\n", *name, s) },
			})
			if err != nil {
				return err
			}
			if asJSON {
				return writeIndented(env.Stdout, labUpJSON{l, started})
			}
			if !started {
				fmt.Fprintf(env.Stdout, "lab %s is up since %s\n", l.Name, l.Since.Format(time.RFC3339))
				return nil
			}
			fmt.Fprintf(env.Stdout, "lab %s is up after %.1f s\n", l.Name, time.Since(begin).Seconds())
			return nil
		},
	}
	host.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

// labUpJSON is lab up --json.
type labUpJSON struct {
	lab.Lab
	Started bool `json:"started"` // and not up before
}

// labDownJSON is lab down --json.
type labDownJSON struct {
	Name string `json:"name"`
}

func newLabRunCommand(env Env, name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command in a lab, with its exit code",
		Long: `Runs a command in a lab, in this directory, with this input, output and
environment, and exits with its exit code.`,
		Example: `  ovsactl lab run -- ovsactl apply roles.hcl --auto-approve
  ovsactl lab run --name second -- virsh list --all`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInLab(cmd.Context(), env, *name, lab.Command{Argv: args})
		},
	}
	cmd.Flags().SetInterspersed(false) // the command's flags are its own
	return cmd
}

func newLabShellCommand(env Env, name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "shell",
		Short: "Open a shell in a lab",
		Long: `Opens your shell ($SHELL, else /bin/sh) in a lab. Its ovsactl, virsh and ssh work
on the lab's host.`,
		Example: `  ovsactl lab shell`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shell := env.Getenv("SHELL")
			if shell == "" {
				shell = "/bin/sh"
			}
			return runInLab(cmd.Context(), env, *name, lab.Command{Argv: []string{shell}, Shell: true})
		},
	}
}

func runInLab(ctx context.Context, env Env, name string, c lab.Command) error {
	l, err := lab.Find(name)
	if err != nil {
		return err
	}
	c.Stdin, c.Stdout, c.Stderr = env.Stdin, env.Stdout, env.Stderr
	c.Inner = []string{"lab", "exec", "--"}
	code, err := lab.Run(ctx, l, c)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

func newLabListCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the labs that run",
		Long: `Lists the labs of this machine: name, first process, since when it is up, and the
data directory in it.`,
		Example: `  ovsactl lab ls
  ovsactl lab ls --json | jq -r '.[].name'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			labs, err := lab.List()
			if err != nil {
				return err
			}
			if asJSON {
				return writeIndented(env.Stdout, append([]lab.Lab{}, labs...)) // [] and not null
			}
			if len(labs) == 0 {
				fmt.Fprintln(env.Stderr, "No labs. `ovsactl lab up` starts one.")
				return nil
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tPID\tSINCE\tDATA DIR")
			for _, l := range labs {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", l.Name, l.PID, l.Since.Format(time.RFC3339), l.DataDir)
			}
			return w.Flush()
		},
	}
	registerJSON(cmd, &asJSON)
	return cmd
}

func newLabDownCommand(env Env, name *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab with everything in it",
		Long: `Ends a lab: its guests, daemons, network and files are gone, whatever they were
doing. Ending one that does not run is fine.`,
		Example: `  ovsactl lab down
  ovsactl lab down --name second`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.Down(cmd.Context(), *name); err != nil {
				return err
			}
			if asJSON {
				return writeIndented(env.Stdout, labDownJSON{*name})
			}
			_, err := fmt.Fprintf(env.Stdout, "lab %s is gone\n", *name)
			return err
		},
	}
	registerJSON(cmd, &asJSON)
	return cmd
}

// labInner is the command line of one of the verbs that a lab runs itself by.
func labInner(verb, name, dataDir string) []string {
	return []string{"lab", verb, "--name", name, "--data-dir", dataDir}
}

func labInnerCommands(env Env, name *string) []*cobra.Command {
	var dataDir string
	hold := &cobra.Command{Use: "hold", RunE: func(*cobra.Command, []string) error {
		return lab.Hold(labInner("serve", *name, dataDir))
	}}
	serve := &cobra.Command{Use: "serve", RunE: func(*cobra.Command, []string) error {
		return lab.Serve(dataDir, labParts(dataDir))
	}}
	exec := &cobra.Command{Use: "exec", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return lab.Exec(args, os.Environ())
	}}
	exec.Flags().SetInterspersed(false)
	for _, c := range []*cobra.Command{hold, serve} {
		c.Args = cobra.NoArgs
		c.Flags().StringVar(&dataDir, "data-dir", "", "")
	}
	cmds := []*cobra.Command{hold, serve, exec}
	for _, c := range cmds {
		c.Hidden = true
	}
	return cmds
}
