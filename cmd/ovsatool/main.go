// Command ovsatool protects models and licenses them.
// See `ovsatool help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

func main() { os.Exit(guestcli.Tool().Main()) }
