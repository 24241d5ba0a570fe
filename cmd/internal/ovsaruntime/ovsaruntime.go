// Package ovsaruntime is the command line of the program that proves where its
// guest runs, and will serve licensed models in it.
package ovsaruntime

import (
	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
)

// session is a run of a command that uses a key store.
type session struct{ keystore.Session }

// Program is ovsaruntime on a machine.
func Program(p keystore.Ports) guestcli.Program {
	return guestcli.Program{
		Name: "ovsaruntime", Summary: "prove where this guest runs, and serve licensed models in it", Config: "/opt/ovsa/kvm/ovsaruntime.conf",
		Commands: []guestcli.Command{quoteCommand(), tcbCommand(p)},
		Later:    []string{"serve"},
	}
}
