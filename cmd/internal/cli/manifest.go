package cli

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/diag"
	"github.com/ovsactl/ovsactl/roles"
)

// defaultManifest is read where the command line names no file.
const defaultManifest = "roles.hcl"

// stdinName is what diagnostics call a manifest from standard input ("-").
const stdinName = "<stdin>"

// manifestFlags says which manifest a verb works on and with which values of
// its variables. Verbs put their positional arguments in files.
type manifestFlags struct {
	files    []string // positional; none means roles.hcl
	vars     []string // NAME=VALUE
	varFiles []string
}

// register adds the flags and gives cmd its manifest files as arguments.
func (f *manifestFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.vars, "var", nil, "value of a variable, `NAME=VALUE`; may be repeated")
	flags.StringArrayVar(&f.varFiles, "var-file", nil, "`file` of NAME = VALUE lines; may be repeated")
	cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt)
}

// names returns the manifest's files.
func (f *manifestFlags) names() []string {
	if len(f.files) == 0 {
		return []string{defaultManifest}
	}
	return f.files
}

// options turns the flags into what [roles.Load] takes, and the names of the
// files with "-" replaced by what stands for standard input.
func (f *manifestFlags) options(env Env) ([]string, roles.Options, error) {
	opts := roles.Options{
		Vars:       make(map[string]string),
		VarFiles:   f.varFiles,
		Getenv:     env.Getenv,
		DefaultTPM: env.Getenv("OVSACTL_TPM"),
	}
	for _, v := range f.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			// The text may be a secret: it is not repeated.
			return nil, opts, usageError("--var takes NAME=VALUE", "for example: --var memory=2GiB")
		}
		opts.Vars[name] = value
	}
	files := slices.Clone(f.names())
	for i, name := range files {
		if name != "-" {
			continue
		}
		src, err := io.ReadAll(io.LimitReader(env.Stdin, roles.MaxFileSize+1))
		if err != nil {
			return nil, opts, err
		}
		opts.Sources = map[string][]byte{stdinName: src}
		files[i] = stdinName
	}
	return files, opts, nil
}

// loadManifest loads what the flags name. Diagnostics go to stderr; when one
// of them is an error, the returned error carries the exit code and nothing
// more is to be printed.
func loadManifest(ctx context.Context, env Env, f *manifestFlags) (*roles.Manifest, error) {
	l, err := f.load(ctx, env)
	if err != nil {
		return nil, err
	}
	return l.manifest, reportDiagnostics(env, l.files, l.diags)
}

// loaded is what [roles.Load] returns.
type loaded struct {
	manifest *roles.Manifest
	files    map[string]*hcl.File
	diags    hcl.Diagnostics
}

func (f *manifestFlags) load(ctx context.Context, env Env) (loaded, error) {
	return interruptibly(ctx, func() (loaded, error) {
		names, opts, err := f.options(env)
		if err != nil {
			return loaded{}, err
		}
		m, files, diags := roles.Load(names, opts)
		return loaded{m, files, diags}, nil
	})
}

// interruptibly is f until ctx ends. Nothing else ends the reading of a terminal
// or a pipe; what is left of f ends with the process.
func interruptibly[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// reportDiagnostics prints diags for people. It returns exitStatus(exitManifest)
// when one of them is an error.
func reportDiagnostics(env Env, files map[string]*hcl.File, diags hcl.Diagnostics) error {
	if err := diag.Text(env.Stderr, files, diags, diagStyle(env)); err != nil {
		return err
	}
	if diags.HasErrors() {
		return exitStatus(exitManifest)
	}
	return nil
}

// diagStyle fits diagnostics to what stderr is.
func diagStyle(env Env) diag.Style {
	f, ok := env.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return diag.Style{}
	}
	style := diag.Style{Width: 80, Color: env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
		style.Width = w
	}
	return style
}

// completeTargets completes --target from the manifest that is named before it.
func completeTargets(env Env) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		f := manifestFlags{files: args}
		names := slices.DeleteFunc(roles.Names(f.names(), roles.Options{Getenv: env.Getenv}), func(n string) bool {
			return !strings.HasPrefix(n, toComplete)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRoles completes role names from the manifest of -f or roles.hcl. It
// offers nothing, and says nothing, when that cannot be read.
func completeRoles(env Env) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		file := defaultManifest
		if f := cmd.Flags().Lookup("file"); f != nil && f.Value.String() != "" {
			file = f.Value.String()
		}
		names := slices.DeleteFunc(roles.Names([]string{file}, roles.Options{Getenv: env.Getenv}), func(n string) bool {
			return !strings.HasPrefix(n, toComplete) || slices.Contains(args, n)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
