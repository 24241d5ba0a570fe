package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/hint"
)

func newPackageCommand(env Env) *cobra.Command {
	opts := component.BuildOptions{Version: buildinfo.Version()}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "package",
		Short: "Build the component tarballs that apply installs in guests",
		Long: `Package makes ovsa-developer.tar.gz, ovsa-license-server.tar.gz and
ovsa-model-hosting.tar.gz from the guest programs, and ovsa-openvino.tar.gz from
OpenVINO's libraries in their directory openvino; where those are not there it is
left out. The same programs and libraries give the same bytes. apply finds the
tarballs in ../dist beside ovsactl's own directory, in ../share/ovsactl/packages,
or where --packages or OVSACTL_PACKAGES says.`,
		Example: `  ovsactl package --out dist
  tar xzf dist/ovsa-developer.tar.gz && sudo ./ovsa-developer/install.sh`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if opts.Programs == "" {
				program, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find this program: %w", err)
				}
				opts.Programs = filepath.Dir(program)
			}
			opts.LeftOut = func(name string, why error) {
				fmt.Fprintf(env.Stderr, "%s is left out: %v\n%s\n", name, why, hint.Of(why))
			}
			built, err := component.Build(opts)
			if err != nil {
				return unwritable(err, "name a directory that can be made: --out DIR")
			}
			if asJSON {
				return writeIndented(env.Stdout, packagesJSON(built))
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "COMPONENT\tVERSION\tDIGEST\tFILE")
			for _, p := range built {
				fmt.Fprintf(w, "%s\t%s\tsha256:%s\t%s\n", p.Name, p.Version, p.Digest[:12], p.Path)
			}
			return w.Flush()
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.Out, "out", "o", "dist", "`directory` for the tarballs")
	flags.StringVar(&opts.Programs, "programs", "", "`directory` with the guest programs (default: that of ovsactl)")
	flags.StringVar(&opts.Version, "component-version", opts.Version, "version that the components carry")
	flags.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// packageJSON is one component in package --json.
type packageJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
}

func packagesJSON(built []component.Package) []packageJSON {
	list := make([]packageJSON, len(built))
	for i, p := range built {
		list[i] = packageJSON{Name: p.Name, Version: p.Version, SHA256: p.Digest, Path: p.Path, Size: p.Size}
	}
	return list
}

// packagesFlags says where our component tarballs are, for verbs that install.
type packagesFlags struct{ dir string }

func (f *packagesFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "packages", "", "`directory` with the component tarballs (default $OVSACTL_PACKAGES, or beside ovsactl)")
}

// resolve returns where to look. A program whose path is unknown is looked
// beside nowhere.
func (f *packagesFlags) resolve(env Env) component.Dirs {
	program, _ := os.Executable()
	return component.Search(cmp.Or(f.dir, env.Getenv("OVSACTL_PACKAGES")), program)
}
