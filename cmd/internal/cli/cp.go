package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/visible"
)

func newCpCommand(env Env) *cobra.Command {
	var flags hostFlags
	var how login
	transfer := remote.Transfer{}
	cmd := &cobra.Command{
		Use:   "cp SOURCE... TARGET",
		Short: "Copy files to and from a guest",
		Long: `Cp copies between this machine and one guest. A path in a guest is written
ROLE:PATH; one without a leading slash is in the user's home. Every file is
checked by digest and arrives whole or not at all. A local path with a colon in
its name is written with a slash: ./a:b`,
		Example: `  ovsactl cp model.xml model.bin isv_dev:/opt/ovsa/kvm/artefacts
  ovsactl cp -r isv_dev:/opt/ovsa/kvm/artefacts/fd .`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := parseCopy(args)
			if err != nil {
				return err
			}
			return withGuests(cmd.Context(), env, &flags, func(g *guests) error {
				conn, err := g.connect(cmd.Context(), c.role, how)
				if err != nil {
					return err
				}
				defer conn.Close()
				progress := newCopyProgress(env)
				defer progress.done()
				transfer.Start, transfer.Progress = progress.start, progress.add
				for _, source := range c.sources {
					if c.up {
						err = conn.Upload(cmd.Context(), source, c.target, transfer)
					} else {
						err = conn.Download(cmd.Context(), source, c.target, transfer)
					}
					if errors.Is(err, fs.ErrPermission) {
						err = hint.Wrap(err, "a copy has the rights of the user that logs in: copy to its home, then: ovsactl ssh %s -- sudo mv ...", c.role)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.register(cmd)
	how.register(cmd)
	cmd.Flags().BoolVarP(&transfer.Recursive, "recursive", "r", false, "copy directories with all that is in them")
	return cmd
}

// copyArgs is a copy to a guest (up) or from one. Paths in it are plain.
type copyArgs struct {
	role    string
	up      bool
	sources []string
	target  string
}

func parseCopy(args []string) (copyArgs, error) {
	last := len(args) - 1
	var c copyArgs
	c.role, c.target = splitRemote(args[last])
	c.up = c.role != ""
	for _, arg := range args[:last] {
		role, path := splitRemote(arg)
		switch {
		case c.up && role == c.role:
			return c, usageError("both sides are in the guest", "copy there: ovsactl ssh "+role+" -- cp ...")
		case c.up && role != "" || !c.up && c.role != "" && role != "" && role != c.role:
			return c, usageError(fmt.Sprintf("%q and %q are two guests", role, c.role), "copy to this machine first")
		case !c.up && role == "":
			return c, usageError(fmt.Sprintf("neither %q nor the target is in a guest", arg),
				"write ROLE:PATH, for example: ovsactl cp notes.txt runtime:notes.txt")
		case !c.up:
			c.role = role
		}
		c.sources = append(c.sources, path)
	}
	if len(c.sources) > 1 && c.up {
		c.target = strings.TrimRight(c.target, "/") + "/" // several go into a directory
		if args[last] == c.role+":" {
			c.target = "./"
		}
	}
	if info, err := os.Stat(c.target); len(c.sources) > 1 && !c.up && (err != nil || !info.IsDir()) {
		return c, usageError(fmt.Sprintf("target %q is not a directory", c.target), "several files need one")
	}
	return c, nil
}

// splitRemote takes ROLE:PATH apart; the role is "" for a local path.
func splitRemote(arg string) (role, path string) {
	before, after, ok := strings.Cut(arg, ":")
	if !ok || before == "" || strings.ContainsAny(before, "/.") {
		return "", arg
	}
	return before, after
}

// copyProgress shows, on a terminal, the file that is on its way.
type copyProgress struct {
	w          io.Writer
	tty        bool
	name       string
	sent, size int64
	painted    time.Time
}

func newCopyProgress(env Env) *copyProgress {
	f, ok := env.Stderr.(*os.File)
	return &copyProgress{w: env.Stderr, tty: ok && term.IsTerminal(int(f.Fd())) && env.Getenv("TERM") != "dumb"}
}

func (p *copyProgress) start(name string, size int64) {
	p.name, p.size, p.sent, p.painted = name, size, 0, time.Time{}
	p.add(0)
}

func (p *copyProgress) add(n int) {
	p.sent += int64(n)
	if !p.tty || time.Since(p.painted) < barRefresh && p.sent < p.size {
		return
	}
	p.painted = time.Now()
	fmt.Fprintf(p.w, "%s%s%s", clearLine, visible.Text(p.name), bar(p.sent, p.size))
}

func (p *copyProgress) done() {
	if p.tty {
		fmt.Fprint(p.w, clearLine)
	}
}
