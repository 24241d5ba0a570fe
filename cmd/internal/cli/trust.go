package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/cmd/internal/trust"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/roles"
)

// hostStores are the trust stores of a host: what vtpm verify believes.
func hostStores(h roles.Host) trust.Stores {
	dir := func(name string) string { return filepath.Join(h.DataDir, "vtpm", name) }
	return trust.Stores{All: []trust.Store{
		{For: "tpm-vendor", Dir: dir("trust"), Whose: "makers of hosts' TPMs", Lacks: "vtpm verify fails at the host's EK certificate", Authorities: true},
		{For: "attestation", Dir: dir("ak-trust"), Whose: "authorities that enrol hosts", Lacks: "vtpm verify fails at the host's AK certificate", Authorities: true},
	}}
}

// newTrustCommand is `ovsactl trust`: the same command that the programs in guests
// have.
func newTrustCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Choose whose certificates this host believes",
		Long: `vtpm verify believes what leads to a maker of TPMs, and to an authority that
enrols hosts, in the host's trust stores. Nobody is in them by itself. The same
command, with other stores, is in ovsatool and in license_server.`,
	}
	cmd.AddCommand(newTrustAddCommand(env), newTrustListCommand(env), newTrustRemoveCommand(env))
	return cmd
}

// trustFlags say which stores are meant.
type trustFlags struct {
	host    hostFlags
	purpose string
	json    bool
}

func (f *trustFlags) register(cmd *cobra.Command, help string) {
	f.host.register(cmd)
	purposes := hostStores(roles.Host{}).Purposes()
	cmd.Flags().StringVar(&f.purpose, "for", "", help+": "+strings.Join(purposes, " or "))
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(purposes, cobra.ShellCompDirectiveNoFileComp))
}

// store is the one that --for names.
func (f *trustFlags) store(env Env) (trust.Store, error) {
	h, err := f.host.resolve(env)
	if err != nil {
		return trust.Store{}, err
	}
	s, err := hostStores(h).Named(f.purpose)
	if err != nil {
		return trust.Store{}, usageError("--for: "+err.Error(), "there is "+strings.Join(hostStores(h).Purposes(), ", "))
	}
	return s, nil
}

func newTrustAddCommand(env Env) *cobra.Command {
	var flags trustFlags
	cmd := &cobra.Command{
		Use:   "add FILE...",
		Short: "Believe an authority's certificate",
		Long: `Believes the authority whose certificate is in each file, for what --for names:
tpm-vendor, a maker of TPMs, or attestation, an authority that enrols hosts.`,
		Example: `  sudo ovsactl trust add --for tpm-vendor vendor-root.pem
  sudo ovsactl trust add --for attestation attestation.crt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := flags.store(env)
			if err != nil {
				return err
			}
			added, err := s.Add(args...)
			for _, a := range added {
				fmt.Fprintf(env.Stderr, "believed for %s: %s  %s\n", a.For, a.ID, visible.Line(a.Subject))
			}
			if err != nil || !flags.json {
				return err
			}
			return writeIndented(env.Stdout, added)
		},
	}
	flags.register(cmd, "what it is believed for")
	return cmd
}

func newTrustListCommand(env Env) *cobra.Command {
	var flags trustFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the trust stores, and what fails because one is empty",
		Long: `Lists the host's trust stores: where they are, who fills them, what is in them,
and what fails because one is empty.`,
		Example: `  ovsactl trust ls
  ovsactl trust ls --json | jq '.[] | select(.missing)'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			h, err := flags.host.resolve(env)
			if err != nil {
				return err
			}
			shown := hostStores(h).All
			if flags.purpose != "" {
				s, err := flags.store(env)
				if err != nil {
					return err
				}
				shown = []trust.Store{s}
			}
			all, err := trust.List(shown...)
			if err != nil {
				return err
			}
			if flags.json {
				return writeIndented(env.Stdout, all)
			}
			return trust.Write(env.Stdout, all, "sudo ovsactl trust add --for")
		},
	}
	flags.register(cmd, "only what is believed for this")
	return cmd
}

func newTrustRemoveCommand(env Env) *cobra.Command {
	var flags trustFlags
	cmd := &cobra.Command{
		Use:     "rm SHA-256",
		Short:   "Believe a certificate no longer",
		Long:    `Takes a certificate out of a store. The first 8 digits of its SHA-256 are enough.`,
		Example: `  sudo ovsactl trust rm --for tpm-vendor 3f2a90c1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := flags.store(env)
			if err != nil {
				return err
			}
			removed, err := s.Remove(args[0])
			if err != nil {
				return err
			}
			if flags.json {
				return writeIndented(env.Stdout, removed)
			}
			_, err = fmt.Fprintf(env.Stderr, "no longer believed for %s: %s  %s\n", removed.For, removed.ID, visible.Line(removed.Subject))
			return err
		},
	}
	flags.register(cmd, "what it is believed for no longer")
	return cmd
}
