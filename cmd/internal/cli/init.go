package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/examples"
	"github.com/ovsactl/ovsactl/internal/hint"
)

func newInitCommand(env Env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "init [FILE]",
		GroupID: "manifest",
		Short:   "Write a commented manifest to start from",
		Long: `Init writes a manifest with two roles and comments (roles.hcl where no file is
named, standard output for "-"). It never replaces a file.`,
		Example: `  ovsactl init
  ovsactl init lab.hcl
  ovsactl init - | less`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := defaultManifest
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" {
				if asJSON {
					return usageError("standard output is the manifest", "--json is for a file")
				}
				_, err := env.Stdout.Write(examples.Quickstart())
				return err
			}
			if err := writeNew(name, examples.Quickstart()); err != nil {
				return err
			}
			if asJSON {
				return writeIndented(env.Stdout, writtenJSON{name})
			}
			_, err := fmt.Fprintf(env.Stderr, "Wrote %s. What it would do:\n\n    ovsactl plan %s\n", name, name)
			return err
		},
	}
	registerJSON(cmd, &asJSON)
	return cmd
}

// writtenJSON is what a verb wrote.
type writtenJSON struct {
	File string `json:"file"`
}

// unwritable adds a hint to an error of a path that the user named.
func unwritable(err error, text string) error {
	var path *fs.PathError
	if !errors.As(err, &path) || hint.Of(err) != "" {
		return err
	}
	return hint.Wrap(err, "%s", text)
}

// writeNew writes a file that must not exist, whole or not at all.
func writeNew(name string, data []byte) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return hint.Wrap(fmt.Errorf("%q exists already", name), "give another name, or look at the starter with: ovsactl init -")
	}
	if err != nil {
		return unwritable(err, "name a file in a directory that is there and yours, or write to standard output: ovsactl init -")
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			os.Remove(name)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}
