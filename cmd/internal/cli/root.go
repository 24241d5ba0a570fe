// Package cli is the command line of ovsactl: a file per verb, each from flags
// to options, to one call into the core, to a view. stdout is the product,
// stderr is the conversation.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// Exit codes, documented in ovsactl(1).
const (
	exitOK          = 0
	exitError       = 1
	exitChanges     = 2 // plan --detailed-exitcode has changes
	exitManifest    = 3 // the manifest is bad
	exitInterrupted = 130
)

// Env is all that the command line takes from the process.
type Env struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// exitStatus is an error that has been told to the user already and only sets
// the exit code.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Run runs one command line and returns the process's exit code.
func Run(ctx context.Context, env Env) int {
	root := newRoot(env)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(env.Stderr, "ovsactl: error: %v\n", err)
	if h := adviceOn(err, os.Geteuid()); h != "" {
		fmt.Fprintf(env.Stderr, "ovsactl: hint: %s\n", h)
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	return exitError
}

// adviceOn is what the user can do about err: its hint, or to be root, or to
// make room.
func adviceOn(err error, uid int) string {
	if h := hint.Of(err); h != "" {
		return h
	}
	switch {
	case uid != 0 && errors.Is(err, fs.ErrPermission):
		return "it is not yours to use: run it as root, with sudo"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: ovsactl image prune frees some; or use another data directory"
	}
	return ""
}

func newRoot(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "ovsactl",
		Short: "Guests with proven virtual TPMs for licensed AI models, from one HCL file",
		Long: `ovsactl makes guests on a Linux host with KVM and a TPM 2.0, from one HCL file.
Each has a virtual TPM that the host's TPM vouches for, so that a guest can prove
where it runs: the ground for licensed AI models.

    ovsactl init                 write a commented roles.hcl
    ovsactl plan roles.hcl       what apply would do
    ovsactl apply roles.hcl      make it so; a second run changes nothing

Exit codes: 0 done; 1 an error; 2 there are changes (plan --detailed-exitcode);
3 the manifest is bad; 130 interrupted. The verbs that run a command in a guest
or a lab exit with its exit code.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		Version:           buildinfo.Version(),
	}
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.AddGroup(
		&cobra.Group{ID: "manifest", Title: "The manifest:"},
		&cobra.Group{ID: "guests", Title: "Guests:"},
		&cobra.Group{ID: "host", Title: "The host:"},
	)
	root.AddCommand(
		newVersionCommand(env),
		newInitCommand(env),
		newValidateCommand(env),
		newFmtCommand(env),
		newPlanCommand(env),
		newApplyCommand(env),
		newDestroyCommand(env),
		newStatusCommand(env),
		newManCommand(env),
	)
	root.AddCommand(inGroup("guests", newSSHCommand(env), newExecCommand(env), newCpCommand(env),
		newConsoleCommand(env), newLogsCommand(env), newScreenshotCommand(env))...)
	root.AddCommand(inGroup("host", newHostCommand(env), newVTPMCommand(env), newTrustCommand(env), newLabCommand(env),
		newImageCommand(env), newPackageCommand(env))...)
	explainUsage(root)
	return root
}

// inGroup puts commands under one heading of the help.
func inGroup(id string, cmds ...*cobra.Command) []*cobra.Command {
	for _, c := range cmds {
		c.GroupID = id
	}
	return cmds
}

func newVersionCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Prints the program's name and version on one line. The version is that of the
last tag, with the commit where there are later ones.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return writeIndented(env.Stdout, versionJSON{buildinfo.Version()})
			}
			_, err := fmt.Fprintln(env.Stdout, "ovsactl", buildinfo.Version())
			return err
		},
	}
	registerJSON(cmd, &asJSON)
	return cmd
}

// versionJSON is version --json.
type versionJSON struct {
	Version string `json:"version"`
}
