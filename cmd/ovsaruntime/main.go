// Command ovsaruntime proves where its guest runs and serves licensed models.
// See `ovsaruntime help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

func main() { os.Exit(guestcli.Runtime().Main()) }
