// Package ovsatool is the command line with which an ISV protects models and
// sells licences, and a customer makes the keys that licences are for.
//
// Each command is a row of a table, and a function from its flags to calls into
// licensing.
package ovsatool

import (
	"context"
	"slices"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/trust"
)

// session is a run of the tool.
type session struct{ keystore.Session }

// action runs a command.
type action func(ctx context.Context, s session) error

// binder makes an action what a table of commands has.
type binder func(action) func(context.Context, *guestcli.Call) error

// Program is ovsatool on a machine.
func Program(p keystore.Ports) guestcli.Program {
	run := func(a action) func(context.Context, *guestcli.Call) error {
		return func(ctx context.Context, c *guestcli.Call) error {
			return a(ctx, session{keystore.Session{Call: c, Ports: p}})
		}
	}
	return guestcli.Program{
		Name: "ovsatool", Summary: "protect models and license them", Config: "/opt/ovsa/kvm/ovsatool.conf",
		Groups: []guestcli.Group{
			{Name: "keygen", Summary: "make and use a key store"},
			trust.Group(),
		},
		Commands: slices.Concat(keygenCommands(run), []guestcli.Command{
			controlAccessCommand(run), licgenCommand(run), saleCommand(run), updateCommand(run), inspectCommand(run),
		}, trust.Commands("ovsatool", keystore.Stores, append(keystore.HostTrust(), keystore.Trust())...)),
	}
}
