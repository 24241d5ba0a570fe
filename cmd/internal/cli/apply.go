package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// newApplyCommand is `ovsactl apply`.
func newApplyCommand(env Env) *cobra.Command {
	var manifest manifestFlags
	var which selection
	var how changeFlags
	cmd := &cobra.Command{
		Use:     "apply [FILE...]",
		GroupID: "manifest",
		Short:   "Make the host match the manifest",
		Long: `Shows the plan, asks, and carries it out. When a role fails the others finish. It
may be killed at any point: the next run finishes or undoes what was begun.
A second run of the same manifest changes nothing.

The plan and the table of times go to stdout, what happens meanwhile to stderr.
With --json, stdout is JSON lines.`,
		Example: `  ovsactl apply roles.hcl
  ovsactl apply roles.hcl --auto-approve --target runtime
  ovsactl apply --auto-approve --json | jq -r 'select(.event == "report")'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			manifest.files = args
			return change{env: env, manifest: &manifest, which: which, how: how, question: "Apply this plan?",
				plan: func(ctx context.Context, e *provision.Engine, m *roles.Manifest) (*provision.Plan, error) {
					return e.Plan(ctx, m, provision.PlanOptions{Targets: which.roles(), Prune: which.prune})
				},
			}.run(cmd.Context())
		},
	}
	manifest.register(cmd)
	which.register(env, cmd)
	which.registerPrune(cmd)
	how.register(cmd)
	cmd.Flags().DurationVar(&how.timeout, "timeout", 0, "how long a guest may take from its start until it answers (default 5m, without KVM 15m)")
	return cmd
}

// changeFlags say how a verb that changes the host does it.
type changeFlags struct {
	autoApprove bool
	json        bool
	parallelism int
	timeout     time.Duration
	lockTimeout time.Duration
}

func (f *changeFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.autoApprove, "auto-approve", false, "do not ask")
	flags.BoolVar(&f.json, "json", false, "print JSON lines: the plan, each event, the report")
	flags.IntVar(&f.parallelism, "parallelism", 0, "steps at a time (default 8)")
	flags.DurationVar(&f.lockTimeout, "lock-timeout", 0, "how long to wait for another run to end (default: for ever)")
}

func (f *changeFlags) check() error {
	for _, n := range []struct {
		flag  string
		value int64
	}{{"parallelism", int64(f.parallelism)}, {"timeout", int64(f.timeout)}, {"lock-timeout", int64(f.lockTimeout)}} {
		if n.value < 0 {
			return usageError(fmt.Sprintf("--%s is less than 0", n.flag), "leave it out for the default")
		}
	}
	return nil
}

// change is one run of apply or destroy.
type change struct {
	env      Env
	manifest *manifestFlags
	which    selection
	how      changeFlags
	question string
	plan     func(context.Context, *provision.Engine, *roles.Manifest) (*provision.Plan, error)
}

func (c change) run(ctx context.Context) error {
	if err := c.how.check(); err != nil {
		return err
	}
	m, err := loadManifest(ctx, c.env, c.manifest)
	if err != nil {
		return err
	}
	engine, done, err := openSite(ctx, c.env, m.Host, c.which.packages)
	if err != nil {
		return err
	}
	defer done()
	view := newRunView(c.env, c.how.json)
	defer view.Close()
	engine.Observe = view.Observe
	release, err := c.lock(ctx, engine)
	if err != nil {
		return err
	}
	defer release()
	p, err := c.plan(ctx, engine, m)
	if err != nil {
		return err
	}
	if err := view.Plan(p); err != nil {
		return err
	}
	if !p.Changed() {
		return nil
	}
	if err := c.approve(ctx); err != nil {
		return err
	}
	report, err := engine.Apply(ctx, p, provision.ApplyOptions{Parallelism: c.how.parallelism, Timeout: c.how.timeout})
	view.Close()
	if report != nil {
		err = errors.Join(err, view.Report(report))
	}
	if errors.Is(err, provision.ErrRoles) && ctx.Err() == nil {
		return exitStatus(exitError) // the report has told
	}
	if ctx.Err() != nil {
		return hint.Wrap(err, "run it again: that finishes or undoes what was begun")
	}
	return err
}

// lock waits for other runs, and says for whom.
func (c change) lock(ctx context.Context, engine *provision.Engine) (func(), error) {
	if c.how.lockTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.how.lockTimeout, fmt.Errorf("not free within %s", c.how.lockTimeout))
		defer cancel()
	}
	holder := fmt.Sprintf("pid %d (ovsactl, %s, since %s)", os.Getpid(), engine.Owner, time.Now().Format(time.RFC3339))
	return engine.Lock(ctx, holder, func(b *lock.Busy) {
		fmt.Fprintf(c.env.Stderr, "ovsactl: waiting for %s\n", cmp.Or(b.Holder, "another run"))
	})
}

// approve asks, unless that is not wanted.
func (c change) approve(ctx context.Context) error {
	if c.how.autoApprove {
		return nil
	}
	in, ok := c.env.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError("nothing was changed: there is no terminal to ask on", "look at the plan, then say --auto-approve")
	}
	fmt.Fprintf(c.env.Stderr, "%s Only \"yes\" is taken for it: ", c.question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // the end of input is no "yes"
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.env.Stderr)
		return context.Cause(ctx)
	case a := <-answer:
		if a != "yes" {
			fmt.Fprintln(c.env.Stderr, "Nothing was changed.")
			return exitStatus(exitError)
		}
		return nil
	}
}
