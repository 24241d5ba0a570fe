package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/remote"
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
command failed in any.

With --json it prints JSON lines, and reads no input: role, stream and line for
each line of output; role, exit and error when a role's command has ended.`,
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
	cmd.Flags().BoolVar(&opts.json, "json", false, "print JSON lines: each line of output, and each end")
	cmd.Flags().IntVar(&opts.parallelism, "parallelism", 8, "how many guests at once")
	return cmd
}

type execOptions struct {
	all, json   bool
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
	if len(roles) == 1 && !opts.json {
		return passExit(execOne(ctx, g, roles[0], opts.how, argv, streams{env.Stdin, env.Stdout, env.Stderr}))
	}
	var mu sync.Mutex // one line at a time
	var failed error  // of one of them
	var group errgroup.Group
	group.SetLimit(max(1, opts.parallelism))
	width := len(slices.MaxFunc(roles, func(a, b string) int { return len(a) - len(b) }))
	for _, role := range roles {
		group.Go(func() error {
			prefix := fmt.Sprintf("%-*s | ", width, role)
			out, errs := &lineWriter{mu: &mu, w: env.Stdout, layout: behind(prefix)}, &lineWriter{mu: &mu, w: env.Stderr, layout: behind(prefix)}
			if opts.json {
				out = &lineWriter{mu: &mu, w: env.Stdout, layout: asOutput(role, "stdout")}
				errs = &lineWriter{mu: &mu, w: env.Stdout, layout: asOutput(role, "stderr")}
			}
			err := execOne(ctx, g, role, opts.how, argv, streams{nil, out, errs})
			out.flush()
			errs.flush()
			mu.Lock()
			defer mu.Unlock()
			failed = cmp.Or(failed, err)
			switch {
			case opts.json:
				return json.NewEncoder(env.Stdout).Encode(endOf(role, err))
			case err != nil:
				fmt.Fprintf(env.Stderr, "%s%v\n", prefix, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var exit *remote.ExitError
	switch {
	case failed == nil:
		return nil
	case ctx.Err() != nil:
		return exitStatus(exitInterrupted)
	case len(roles) == 1 && errors.As(failed, &exit):
		return exitStatus(exit.Code)
	}
	return exitStatus(exitError)
}

// outputJSON is a line that a command printed, in exec --json.
type outputJSON struct {
	Role   string `json:"role"`
	Stream string `json:"stream"` // stdout or stderr
	Line   string `json:"line"`
}

// endedJSON is the end of a role's command, in exec --json.
type endedJSON struct {
	Role  string `json:"role"`
	Exit  *int   `json:"exit"` // null where it did not run, or was cut off
	Error string `json:"error,omitempty"`
}

func endOf(role string, err error) endedJSON {
	e := endedJSON{Role: role}
	var exit *remote.ExitError
	switch {
	case err == nil:
		e.Exit = new(int)
		return e
	case errors.As(err, &exit):
		e.Exit = &exit.Code
	}
	e.Error = err.Error()
	return e
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

// lineWriter writes whole lines, laid out one by one, and shares its target.
type lineWriter struct {
	mu     *sync.Mutex
	w      io.Writer
	layout func(line string) string
	buf    []byte
}

// behind has a line behind a prefix.
func behind(prefix string) func(string) string {
	return func(line string) string { return prefix + line }
}

// asOutput has it as an outputJSON.
func asOutput(role, stream string) func(string) string {
	return func(line string) string {
		b, err := json.Marshal(outputJSON{role, stream, line}) // strings alone: it cannot fail
		if err != nil {
			panic(err)
		}
		return string(b)
	}
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
	_, err := fmt.Fprintln(l.w, l.layout(string(bytes.TrimRight(line, "\r\n"))))
	return err
}
