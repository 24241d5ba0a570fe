package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/hostcheck"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// newHostCommand is `ovsactl host`: the machine itself.
func newHostCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Check and prepare this machine",
		Long: `A host of guests with bound vTPMs needs KVM, a TPM 2.0, libvirt and its packages,
directories, and a libvirt hook. Check says what is missing, prepare installs and
sets up what can be.`,
	}
	cmd.AddCommand(newHostCheckCommand(env), newHostPrepareCommand(env), newHostEnrollCommand(env), newHostAttestCommand(env), newHostHookCommand(env))
	return cmd
}

// namedHost is the machine this program runs on, by what flags say of it.
func namedHost(env Env, flags *hostFlags) (hostcheck.Host, error) {
	h, err := flags.resolve(env)
	if err != nil {
		return hostcheck.Host{}, err
	}
	return localHost(h)
}

// localHost is the machine this program runs on.
func localHost(h roles.Host) (hostcheck.Host, error) {
	program, err := os.Executable()
	if err != nil {
		return hostcheck.Host{}, fmt.Errorf("find this program: %w", err)
	}
	return hostcheck.Host{URI: h.URI, DataDir: h.DataDir, TPM: h.TPM, Program: program, AttestSocket: vm.AttestSocket}, nil
}

func newHostCheckCommand(env Env) *cobra.Command {
	var flags hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what this machine has and needs, and how to fix it",
		Long: `Looks at everything a host of guests with bound vTPMs needs and changes nothing.
Each line is ok, missing (required), advised or unknown; what to do about those
that are not ok follows. Exits 1 when something required is missing.`,
		Example: `  ovsactl host check
  ovsactl host check --json | jq '.lines[] | select(.status == "missing")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := namedHost(env, &flags)
			if err != nil {
				return err
			}
			lines := hostcheck.Check(hostcheck.Gather(cmd.Context(), h, hostProbes(h)), h.DataDir)
			if err := printChecks(env, lines, asJSON); err != nil {
				return err
			}
			if !hostcheck.Passed(lines) {
				return exitStatus(exitError)
			}
			return nil
		},
	}
	flags.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

func printChecks(env Env, lines []hostcheck.Line, asJSON bool) error {
	if asJSON {
		return writeIndented(env.Stdout, struct {
			OK    bool             `json:"ok"`
			Lines []hostcheck.Line `json:"lines"`
		}{hostcheck.Passed(lines), lines})
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATUS\tWHAT\tHAVE\tNEED")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Status, l.Name, clip(visible.Text(l.Have)), l.Need)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printFixes(env, lines)
}

// haveColumns bounds what a line of the table says of what there is.
const haveColumns = 56

// clip keeps one long line from widening the whole table.
func clip(s string) string {
	if r := []rune(s); len(r) > haveColumns {
		return string(r[:haveColumns-1]) + "…"
	}
	return s
}

// printFixes says what to do, once for all that it mends, and in full what the
// table had no room for.
func printFixes(env Env, lines []hostcheck.Line) error {
	type key struct {
		status hostcheck.Status
		fix    string
	}
	names := make(map[key][]string)
	var order []key
	for _, l := range lines {
		k := key{l.Status, l.Fix}
		if l.Fix == "" {
			continue
		}
		if have := visible.Text(l.Have); clip(have) != have {
			if _, err := fmt.Fprintf(env.Stdout, "\n%s: %s\n    %s\n", l.Status, l.Name, have); err != nil {
				return err
			}
		}
		if names[k] == nil {
			order = append(order, k)
		}
		names[k] = append(names[k], l.Name)
	}
	for _, k := range order {
		if _, err := fmt.Fprintf(env.Stdout, "\n%s: %s\n    %s\n", k.status, strings.Join(names[k], ", "), k.fix); err != nil {
			return err
		}
	}
	return nil
}

func newHostPrepareCommand(env Env) *cobra.Command {
	var flags hostFlags
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Install and set up what this machine lacks",
		Long: `Installs missing packages, makes the directories, adds you to the groups, starts
libvirt and its default network, and installs the libvirt hook that renews the
binding of virtual TPMs and the attestation service that guests ask. What is
there already is left alone.`,
		Example: `  ovsactl host prepare --dry-run
  sudo ovsactl host prepare`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := namedHost(env, &flags)
			if err != nil {
				return err
			}
			actions := h.Actions(hostcheck.Gather(cmd.Context(), h, hostcheck.Probes{}))
			if len(actions) == 0 && !asJSON {
				_, err := fmt.Fprintln(env.Stdout, "Nothing to do: this host is prepared.")
				return err
			}
			if !dryRun && os.Geteuid() != 0 && len(actions) > 0 {
				return hint.Wrap(errors.New("preparing a host needs root"), "sudo ovsactl host prepare; see first what it would do with --dry-run")
			}
			done := preparedJSON{Actions: []string{}, DryRun: dryRun}
			for _, a := range actions {
				done.Actions = append(done.Actions, a.What)
				if dryRun && asJSON {
					continue
				}
				if dryRun {
					fmt.Fprintln(env.Stdout, "would", a.What)
					continue
				}
				say := env.Stdout
				if asJSON {
					say = env.Stderr
				}
				fmt.Fprintln(say, a.What)
				if err := a.Do(cmd.Context()); err != nil {
					return fmt.Errorf("%s: %w", a.What, err)
				}
			}
			if asJSON {
				return writeIndented(env.Stdout, done)
			}
			return nil
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	registerJSON(cmd, &asJSON)
	return cmd
}

// preparedJSON is host prepare --json.
type preparedJSON struct {
	Actions []string `json:"actions"` // in their order; none when nothing was to be done
	DryRun  bool     `json:"dry_run,omitempty"`
}

// hostProbes wires the checks that other packages know how to make.
func hostProbes(h hostcheck.Host) hostcheck.Probes {
	return hostcheck.Probes{
		KVM: func(ctx context.Context) (bool, string, error) { return probeKVM(ctx, h) },
		EKIssuer: func(ctx context.Context, path string) (string, error) {
			tpm, err := openTPM(roles.Host{DataDir: h.DataDir, TPM: path})
			if err != nil {
				return "", err
			}
			return tpm.EKIssuer(ctx)
		},
	}
}

// probeKVM runs a guest kernel under KVM: that of the image of ours that was
// built last, which an apply most likely asks about too, and then finds the
// answer; or this machine's own.
func probeKVM(ctx context.Context, h hostcheck.Host) (works bool, reason string, err error) {
	kernels, err := filepath.Glob(filepath.Join(h.DataDir, "cache", "images", "*", "vmlinuz"))
	if err != nil {
		return false, "", err
	}
	own, err := filepath.Glob("/boot/vmlinuz*")
	if err != nil {
		return false, "", err
	}
	slices.SortFunc(kernels, func(a, b string) int { return modified(b).Compare(modified(a)) })
	kernels = append(kernels, own...)
	if len(kernels) == 0 {
		return false, "", errors.New("no kernel to probe with")
	}
	host, err := vm.Open(ctx, h.URI, vm.Options{})
	if err != nil {
		return false, "", errors.New("not probed: libvirt does not answer")
	}
	defer host.Close()
	accel, reason, err := host.Accelerator(ctx, "auto", kernels[0])
	return accel == vm.KVM, reason, err
}

// modified is the zero time for a file that is gone.
func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
