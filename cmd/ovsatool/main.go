// Command ovsatool protects models and licenses them.
// See `ovsatool help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
)

func main() { os.Exit(ovsatool.Program(keystore.Machine()).Main()) }
