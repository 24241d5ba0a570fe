package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vm"
)

func newExecCommand(env Env) *cobra.Command {
	var flags hostFlags
	var opts execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] [ROLE...] -- COMMAND [ARG...]",
		Short: "Run a command in several guests at once",
		Long: `Exec runs a command in the guests of the roles, or in all running ones with
--all. With more than one, each line of output begins with its role. It exits
with the command's exit status where there is one role, else with 1 when the
command failed in any.`,
		Example: `  ovsactl exec --all -- uptime
  ovsactl exec isv_dev runtime -- sudo apt-get update`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeRoles(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.ArgsLenAtDash()
			if at < 0 || at == len(args) {
				return usageError("no command", `put it after "--": ovsactl exec --all -- uptime`)
			}
			roles, argv := args[:at], args[at:]
			if opts.all != (len(roles) == 0) {
				return usageError("name the roles, or use --all for every running one", "ovsactl exec isv_dev -- "+strings.Join(argv, " "))
			}
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				return execGuests(cmd.Context(), env, g, opts, roles, argv)
			})
		},
	}
	flags.register(cmd)
	opts.how.register(cmd)
	cmd.Flags().BoolVarP(&opts.all, "all", "a", false, "every role with a running guest")
	cmd.Flags().IntVar(&opts.parallelism, "parallelism", 8, "how many guests at once")
	return cmd
}

type execOptions struct {
	all         bool
	parallelism int
	how         login
}

func execGuests(ctx context.Context, env Env, g *guests, opts execOptions, roles, argv []string) error {
	if opts.all {
		var err error
		if roles, err = g.roles(ctx, func(s vm.State) bool { return s.Active }); err != nil {
			return err
		}
		if len(roles) == 0 {
			return hint.Wrap(errors.New("no guest is running"), "ovsactl apply, or ovsactl status")
		}
	}
	slices.Sort(roles)
	roles = slices.Compact(roles)
	if len(roles) == 1 {
		return passExit(execOne(ctx, g, roles[0], opts.how, argv, streams{env.Stdin, env.Stdout, env.Stderr}))
	}
	var mu sync.Mutex // one line at a time
	failed := false
	var group errgroup.Group
	group.SetLimit(max(1, opts.parallelism))
	width := len(slices.MaxFunc(roles, func(a, b string) int { return len(a) - len(b) }))
	for _, role := range roles {
		group.Go(func() error {
			prefix := fmt.Sprintf("%-*s | ", width, role)
			out, errs := &lineWriter{mu: &mu, w: env.Stdout, prefix: prefix}, &lineWriter{mu: &mu, w: env.Stderr, prefix: prefix}
			err := execOne(ctx, g, role, opts.how, argv, streams{nil, out, errs})
			out.flush()
			errs.flush()
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = true
				fmt.Fprintf(env.Stderr, "%s%v\n", prefix, err)
			}
			return nil
		})
	}
	group.Wait()
	switch {
	case failed && ctx.Err() != nil:
		return exitStatus(exitInterrupted)
	case failed:
		return exitStatus(exitError)
	}
	return nil
}

type streams struct {
	in       io.Reader
	out, err io.Writer
}

func execOne(ctx context.Context, g *guests, role string, how login, argv []string, s streams) error {
	conn, err := g.connect(ctx, role, how)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Run(ctx, argv, s.in, s.out, s.err)
}

// maxLine is where a line without an end is cut.
const maxLine = 64 << 10

// lineWriter writes whole lines, each behind a prefix, and shares its target.
type lineWriter struct {
	mu     *sync.Mutex
	w      io.Writer
	prefix string
	buf    []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	for {
		end := bytes.IndexByte(l.buf, '\n')
		if end < 0 && len(l.buf) < maxLine {
			return len(p), nil
		}
		if end < 0 || end >= maxLine {
			end = maxLine - 1
		}
		if err := l.print(l.buf[:end+1]); err != nil {
			return 0, err
		}
		l.buf = l.buf[end+1:]
	}
}

// flush writes what is left without a line's end.
func (l *lineWriter) flush() {
	if len(l.buf) > 0 {
		l.print(l.buf)
		l.buf = nil
	}
}

func (l *lineWriter) print(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.w, "%s%s\n", l.prefix, bytes.TrimRight(line, "\r\n"))
	return err
}
