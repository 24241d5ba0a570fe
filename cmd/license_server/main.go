// Command license_server releases licensed models' keys to guests that prove where they run.
// See `license_server help`.
package main

import (
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

func main() { os.Exit(guestcli.LicenseServer().Main()) }
