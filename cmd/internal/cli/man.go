package cli

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/buildinfo"
)

// newManCommand writes the manual pages, one per verb, from the same text as
// the help. Packagers and `make man` call it.
func newManCommand(Env) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Long:   "Writes a manual page for ovsactl and for each of its verbs into DIR.",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return unwritable(fmt.Errorf("make directory for manual pages: %w", err), "name a directory that can be made")
			}
			// A fixed date keeps the pages the same for the same source.
			epoch := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Date: &epoch, Source: "ovsactl " + buildinfo.Version(), Manual: "ovsactl"}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return addManual(filepath.Join(args[0], "ovsactl.1"))
		},
	}
}

// manual is what ovsactl(1) says and no verb's help does.
//
//go:embed manual.roff
var manual string

// addManual puts manual into a page, before the list of other pages.
func addManual(page string) error {
	const last = ".SH SEE ALSO"
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	before, after, _ := strings.Cut(string(text), last)
	return atomicfile.WriteFile(page, []byte(before+manual+last+after), 0o644)
}
