// Command license_server releases licensed models' keys to guests that prove where they run.
// See `license_server help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/licenseserver"
)

func main() { os.Exit(licenseserver.Main(licenseserver.Machine(), os.Args)) }
