package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// usageError is a wrong command line, with what would be right.
func usageError(problem, hintText string) error {
	return hint.Wrap(errors.New(problem), "%s", hintText)
}

// explainUsage makes root and all below it end a wrong command line with what
// would be right. Without it a group takes a verb that it does not have
// ("vtpm shwo") for a question, and answers with its help and success.
func explainUsage(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hint.Wrap(err, "see: %s --help", cmd.CommandPath())
	})
	// A group only runs to refuse: its usage line has a command.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	explainArgs(root)
}

func explainArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		explainArgs(c)
	}
	switch {
	case cmd.HasSubCommands():
		cmd.Args = cobra.ArbitraryArgs // or cobra refuses some verbs itself
		cmd.RunE = runGroup
	case cmd.Args != nil:
		takes := cmd.Args
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if takes(cmd, args) == nil {
				return nil
			}
			return usageError(fmt.Sprintf("wrong number of arguments: %d", len(args)), "usage: "+cmd.UseLine())
		}
	}
}

// runGroup answers for a group of verbs: with its help, or that it does not
// have the verb.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	problem := fmt.Sprintf("%s has no verb %q", cmd.Name(), args[0])
	if !cmd.HasParent() {
		problem = fmt.Sprintf("there is no verb %q", args[0])
	}
	see := "ee: " + cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError(problem, fmt.Sprintf("did you mean %q? S%s", near[0], see))
	}
	return usageError(problem, "s"+see)
}
