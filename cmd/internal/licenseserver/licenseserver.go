// Package licenseserver is the command line of the licence server, and the
// process around its protocol: keys and certificates, trust, listeners, reload
// and shutdown.
//
// Each command is a row of a table, and a function from its flags to calls into
// licensing.
package licenseserver

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/trust"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// Where things are when no flag says otherwise.
const (
	DefaultDir = "/opt/ovsa/certs"
	DefaultDB  = "/opt/ovsa/DB/ovsa.db"

	settings = "/opt/ovsa/license_server.conf"
)

// The guide's scripts, under whose names the program is called, too.
const (
	certScript  = "OVSA_install_license_server_cert.sh"
	storeScript = "ovsa_store_customer_lic_cert_db.py"
)

// Ports are what the program needs of the machine.
type Ports struct {
	Now func() time.Time
	// Hangups are the requests to read certificates and trust again, until stop.
	Hangups func() (requests <-chan os.Signal, stop func())
	// NewService makes the protocol's handler. There is nothing to serve without.
	NewService NewService
}

// session is a run of the program.
type session struct {
	*guestcli.Call
	Ports
}

// action runs a command.
type action func(ctx context.Context, s session) error

// binder makes an action what a table of commands has.
type binder func(action) func(context.Context, *guestcli.Call) error

// Main runs the program with argv, the first of which may be the name of one of
// the guide's scripts.
func Main(p Ports, argv []string) int {
	return Program(p).MainWith(commandLine(argv))
}

// Program is license_server on a machine.
func Program(p Ports) guestcli.Program {
	run := func(a action) func(context.Context, *guestcli.Call) error {
		return func(ctx context.Context, c *guestcli.Call) error {
			return a(ledger.On(ctx, actor(c.Getenv), ""), session{c, p})
		}
	}
	return guestcli.Program{
		Name: "license_server", Summary: "release licensed models' keys to guests that prove where they run", Config: settings,
		Groups: []guestcli.Group{
			{Name: "customers", Summary: "look at customers, put their licences away, and forget them"},
			{Name: "guests", Summary: "look at guests, let one in again, and shut one out"},
			{Name: "hosts", Summary: "choose which hosts may be enrolled"},
			trust.Group(),
		},
		Commands: slices.Concat(
			[]guestcli.Command{serveCommand(run), initCommand(run)}, certCommands(run), []guestcli.Command{authorityCommand(run), storeCommand(run)},
			readCommands(run), []guestcli.Command{explainCommand(run)}, customerCommands(run), guestCommands(run), hostCommands(run), revokeCommands(run), auditCommands(run), trust.Commands("license_server", func(c *guestcli.Call) trust.Stores { return certDir(c.Text("dir")).stores() }, dirFlag()), []guestcli.Command{backupCommand(run), checkCommand(run)},
		),
	}
}

// actor is the user who runs the program, for the audit log.
func actor(getenv func(string) string) string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if by := getenv("SUDO_USER"); by != "" {
		name += " for " + visible.Line(by)
	}
	return name
}

// commandLine is what argv means: the guide calls the program by the names of
// its scripts, and without a word to serve.
func commandLine(argv []string) []string {
	if len(argv) == 0 {
		return []string{"serve"}
	}
	args := argv[1:]
	switch filepath.Base(argv[0]) {
	case certScript:
		if len(args) == 0 {
			return []string{"help"}
		}
		return args
	case storeScript:
		if len(args) == 0 || isHelp(args[0]) {
			return []string{"store", "-help"}
		}
		return append([]string{"store", "-db", args[0]}, args[1:]...)
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") && !isHelp(args[0]) && strings.TrimLeft(args[0], "-") != "version" {
		return append([]string{"serve"}, args...)
	}
	return args
}

func isHelp(word string) bool {
	return word == "-h" || word == "-help" || word == "--help" || word == "help"
}

// The flags that many commands have.

func dirFlag() guestcli.Flag {
	return guestcli.Flag{Name: "dir", Arg: "DIR", Kind: guestcli.Dir, Help: "the server's keys and certificates", Setting: true, Default: DefaultDir}
}

func dbFlag() guestcli.Flag {
	return guestcli.Flag{Name: "db", Arg: "FILE|postgres://...", Kind: guestcli.File, Help: "the database", Setting: true, Default: DefaultDB}
}

func jsonFlag() guestcli.Flag { return guestcli.JSON() }

// certDir is the directory of -dir.
func (s session) certDir() certDir { return certDir(s.Text("dir")) }
