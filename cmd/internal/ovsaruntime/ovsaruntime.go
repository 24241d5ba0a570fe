// Package ovsaruntime is the command line of the program that proves where its
// guest runs, and serves licensed models in it.
package ovsaruntime

import (
	"fmt"
	"os"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// session is a run of a command that uses a key store.
type session struct{ keystore.Session }

// Main runs ovsaruntime with arguments, without the program's name, and returns the
// exit code. The program is what starts engines, too.
func Main(p keystore.Ports, args []string) int {
	if len(args) > 0 && args[0] == launchVerb {
		fmt.Fprintf(os.Stderr, "ovsaruntime: error: %v\n", hosting.Launch(args[1:]))
		return 1
	}
	return Program(p).MainWith(args)
}

// Program is ovsaruntime on a machine.
func Program(p keystore.Ports) guestcli.Program {
	return guestcli.Program{
		Name: "ovsaruntime", Summary: "prove where this guest runs, and serve licensed models in it", Config: "/opt/ovsa/kvm/ovsaruntime.conf",
		Commands: []guestcli.Command{serveCommand(p), statusCommand(), checkCommand(p), gencertsCommand(p.Now), quoteCommand(), tcbCommand(p)},
	}
}
