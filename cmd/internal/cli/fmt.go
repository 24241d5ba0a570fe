package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/roles"
)

func newFmtCommand(env Env) *cobra.Command {
	var opts formatting
	cmd := &cobra.Command{
		Use:     "fmt [FILE...]",
		GroupID: "manifest",
		Short:   "Lay out manifests in the usual way",
		Long: `Fmt rewrites manifests (roles.hcl where none is named) with HCL's own layout
and prints the names of those that changed. "-" formats standard input to
standard output. With --check nothing is written, and it exits with 1 when a
file would change. It exits with 3 when a file is not HCL.

With --json it prints one object: "changed", the names of the files that changed,
or would.`,
		Example: `  ovsactl fmt
  ovsactl fmt --check *.hcl
  ovsactl fmt - < roles.hcl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := manifestFlags{files: args}
			return opts.files(cmd.Context(), env, f.names())
		},
	}
	cmd.Flags().BoolVar(&opts.check, "check", false, "only list the files that would change")
	registerJSON(cmd, &opts.json)
	cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt)
	return cmd
}

// formatting is how files are laid out, and what became of them.
type formatting struct {
	check, json bool
	changed     []string
}

// formattedJSON is fmt --json.
type formattedJSON struct {
	Changed []string `json:"changed"`
}

func (f *formatting) files(ctx context.Context, env Env, names []string) error {
	if f.json && slices.Contains(names, "-") && !f.check {
		return usageError("standard output is the manifest", "--json is for files, or with --check")
	}
	bad := error(nil)
	for _, name := range names {
		err := f.file(ctx, env, name)
		var told exitStatus
		if errors.As(err, &told) {
			bad = told
			continue
		}
		if err != nil {
			return err
		}
	}
	if f.json {
		if err := writeIndented(env.Stdout, formattedJSON{append([]string{}, f.changed...)}); err != nil {
			return err
		}
	}
	switch {
	case bad != nil:
		return bad
	case len(f.changed) > 0 && f.check:
		return exitStatus(exitError)
	}
	return nil
}

// file formats one file.
func (f *formatting) file(ctx context.Context, env Env, name string) error {
	src, err := interruptibly(ctx, func() ([]byte, error) { return readSource(env, name) })
	if err != nil {
		return err
	}
	if name == "-" {
		name = stdinName
	}
	file, diags := roles.Parse(name, src)
	if diags.HasErrors() {
		files := map[string]*hcl.File{name: {Bytes: src}}
		if file != nil {
			files[name] = file
		}
		return reportDiagnostics(env, files, diags)
	}
	out := hclwrite.Format(src)
	switch {
	case name == stdinName && !f.check:
		_, err = env.Stdout.Write(out)
		return err
	case bytes.Equal(src, out):
		return nil
	case !f.check:
		if err := replaceFile(name, out); err != nil {
			return err
		}
	}
	f.changed = append(f.changed, name)
	if f.json {
		return nil
	}
	_, err = fmt.Fprintln(env.Stdout, name)
	return err
}

func readSource(env Env, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(env.Stdin, roles.MaxFileSize+1))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, hint.Wrap(err, "to write a commented roles.hcl: ovsactl init")
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, roles.MaxFileSize+1))
}

// replaceFile keeps the file's permissions, and a symbolic link to it.
func replaceFile(name string, data []byte) error {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, data, info.Mode().Perm())
}
