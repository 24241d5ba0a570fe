// Command ovsaruntime proves where its guest runs and serves licensed models.
// See `ovsaruntime help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsaruntime"
)

func main() { os.Exit(ovsaruntime.Main(keystore.Machine(), os.Args[1:])) }
