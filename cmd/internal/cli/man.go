package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
)

// newManCommand writes the manual pages, one per verb, from the same text as
// the help. Packagers and `make man` call it.
func newManCommand(Env) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
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
			return nil
		},
	}
}
