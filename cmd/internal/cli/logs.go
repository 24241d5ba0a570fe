package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovsactl/ovsactl/internal/visible"
)

// followEvery is how often a followed serial log is read.
const followEvery = 500 * time.Millisecond

type logsOptions struct {
	follow  bool
	lines   int
	journal bool
	unit    string
	how     login
}

func newLogsCommand(env Env) *cobra.Command {
	var flags hostFlags
	var opts logsOptions
	cmd := &cobra.Command{
		Use:   "logs ROLE",
		Short: "Show a guest's serial log or journal",
		Long: `Logs shows what the guest wrote to its serial console, from its firmware on: the
place to look when it does not come up. With --journal it shows the guest's
journal over SSH instead, where its components log; --unit picks one of them.`,
		Example: `  ovsactl logs -f runtime
  ovsactl logs --unit ssh isv_dev`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.lines < 1 {
				return usageError("--lines takes a positive number", "for example: --lines 100")
			}
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				if opts.journal || opts.unit != "" {
					return guestJournal(cmd.Context(), env, g, args[0], opts)
				}
				return serialLog(cmd.Context(), env.Stdout, g, args[0], opts)
			})
		},
	}
	registerLong(cmd, &flags)
	opts.how.register(cmd)
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on showing new lines")
	cmd.Flags().IntVarP(&opts.lines, "lines", "n", 200, "how many of the last lines")
	cmd.Flags().BoolVar(&opts.journal, "journal", false, "the guest's journal")
	cmd.Flags().StringVarP(&opts.unit, "unit", "u", "", "the journal of one systemd `unit`")
	return cmd
}

// registerLong adds the host's flags without -f, which is --follow here.
func registerLong(cmd *cobra.Command, flags *hostFlags) {
	var all cobra.Command
	flags.register(&all)
	all.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Shorthand == "f" {
			f.Shorthand = ""
		}
		cmd.Flags().AddFlag(f)
	})
}

// guestJournal has the guest show its journal.
func guestJournal(ctx context.Context, env Env, g *guests, role string, opts logsOptions) error {
	conn, err := g.connect(ctx, role, opts.how)
	if err != nil {
		return err
	}
	defer conn.Close()
	argv := []string{"sudo", "-n", "journalctl", "--no-pager", "--lines=" + strconv.Itoa(opts.lines)}
	if opts.follow {
		argv = append(argv, "--follow")
	}
	if opts.unit != "" {
		argv = append(argv, "--unit="+opts.unit)
	}
	err = conn.Run(ctx, argv, nil, env.Stdout, env.Stderr)
	if opts.follow && ctx.Err() != nil {
		return exitStatus(exitInterrupted) // that is how following ends
	}
	return passExit(err)
}

// serialLog prints the end of the serial log, and what comes after it.
func serialLog(ctx context.Context, w io.Writer, g *guests, role string, opts logsOptions) error {
	s, err := g.state(ctx, role)
	if err != nil {
		return err
	}
	var shown []string
	for n := opts.lines; ; n = max(opts.lines, 2000) {
		tail, err := g.hypervisor.SerialTail(ctx, s.Name, n)
		if err != nil {
			return followEnd(ctx, opts, err)
		}
		complete := tail
		if opts.follow && len(tail) > 0 {
			complete = tail[:len(tail)-1] // the last one may still grow
		}
		for _, line := range freshLines(shown, complete) {
			if _, err := fmt.Fprintln(w, visible.Text(line)); err != nil {
				return err
			}
		}
		if !opts.follow {
			return nil
		}
		if len(complete) > 0 {
			shown = complete
		}
		select {
		case <-ctx.Done():
			return exitStatus(exitInterrupted)
		case <-time.After(followEvery):
		}
	}
}

func followEnd(ctx context.Context, opts logsOptions, err error) error {
	if opts.follow && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return exitStatus(exitInterrupted)
	}
	return err
}

// anchorLines are enough to find again where a log was left.
const anchorLines = 50

// freshLines are those of next that come after the end of shown. When that is
// not in next, all of next is new: the log was begun anew, or more came than
// was read.
func freshLines(shown, next []string) []string {
	if len(shown) == 0 {
		return next
	}
	anchor := shown[max(0, len(shown)-anchorLines):]
	for at := len(next) - len(anchor); at >= 0; at-- {
		if slices.Equal(next[at:at+len(anchor)], anchor) {
			return next[at+len(anchor):]
		}
	}
	return next
}
