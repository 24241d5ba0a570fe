package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/roles"
)

func newFmtCommand(env Env) *cobra.Command {
	check := false
	cmd := &cobra.Command{
		Use:     "fmt [FILE...]",
		GroupID: "manifest",
		Short:   "Lay out manifests in the usual way",
		Long: `Fmt rewrites manifests (roles.hcl where none is named) with HCL's own layout
and prints the names of those that changed. "-" formats standard input to
standard output. With --check nothing is written, and it exits with 1 when a
file would change. It exits with 3 when a file is not HCL.`,
		Example: `  ovsactl fmt
  ovsactl fmt --check *.hcl
  ovsactl fmt - < roles.hcl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := manifestFlags{files: args}
			return formatFiles(cmd.Context(), env, f.names(), check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only list the files that would change")
	cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt)
	return cmd
}

func formatFiles(ctx context.Context, env Env, names []string, check bool) error {
	changed := false
	bad := error(nil)
	for _, name := range names {
		differs, err := formatFile(ctx, env, name, check)
		var told exitStatus
		if errors.As(err, &told) {
			bad = told
			continue
		}
		if err != nil {
			return err
		}
		changed = changed || differs
	}
	switch {
	case bad != nil:
		return bad
	case changed && check:
		return exitStatus(exitError)
	}
	return nil
}

// formatFile formats one file and tells whether that changes it.
func formatFile(ctx context.Context, env Env, name string, check bool) (bool, error) {
	src, err := interruptibly(ctx, func() ([]byte, error) { return readSource(env, name) })
	if err != nil {
		return false, err
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
		return false, reportDiagnostics(env, files, diags)
	}
	out := hclwrite.Format(src)
	differs := !bytes.Equal(src, out)
	switch {
	case name == stdinName && !check:
		_, err = env.Stdout.Write(out)
		return differs, err
	case !differs:
		return false, nil
	case !check:
		err = replaceFile(name, out)
	}
	if err != nil {
		return differs, err
	}
	_, err = fmt.Fprintln(env.Stdout, name)
	return differs, err
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
