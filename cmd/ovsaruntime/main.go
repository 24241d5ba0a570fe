// Command ovsaruntime proves where its guest runs and serves licensed models.
// See `ovsaruntime help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
)

func main() { os.Exit(guestcli.Runtime(ovsatool.GenTCB(ovsatool.Machine())).Main()) }
