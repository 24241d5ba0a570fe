// Package licenseserver is the command line of the licence server, and the
// process around its protocol: keys and certificates, trust, listeners, reload
// and shutdown.
//
// Each verb is a row of a table, and a function from its flags to calls into
// licensing.
package licenseserver

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// Where things are when no flag says otherwise.
const (
	DefaultDir = "/opt/ovsa/certs"
	DefaultDB  = "/opt/ovsa/DB/ovsa.db"
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
	guestcli.Env
	Ports
}

func (s session) say(format string, args ...any) { fmt.Fprintf(s.Stderr, format+"\n", args...) }

// Main runs the program with argv, the first of which may be the name of one of
// the guide's scripts.
func Main(p Ports, argv []string) int {
	return Program(p).MainWith(commandLine(argv))
}

// Program is license_server on a machine.
func Program(p Ports) guestcli.Program {
	program := guestcli.Program{Name: "license_server", Summary: "release licensed models' keys to guests that prove where they run"}
	for _, v := range verbs() {
		program.Commands = append(program.Commands, guestcli.Command{
			Name: v.name, Usage: v.usage(), Summary: v.summary,
			Run: func(ctx context.Context, env guestcli.Env) error { return v.start(ctx, session{env, p}) },
		})
	}
	return program
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

func verbs() []verb {
	var all []verb
	all = append(all, serveVerb())
	all = append(all, certVerbs()...)
	all = append(all, authorityVerb(), storeVerb())
	all = append(all, readVerbs()...)
	all = append(all, revokeVerbs()...)
	all = append(all, auditVerb(), trustVerb(), backupVerb())
	return all
}

// verb is a command of the program.
type verb struct {
	name     string
	operands string // what follows the flags, for the help
	summary  string
	min, max int // how many operands there are
	// define declares the flags, and returns what runs with them.
	define func(f *flags) action
}

// action runs a verb with its operands.
type action func(ctx context.Context, s session, operands []string) error

func (v verb) start(ctx context.Context, s session) error {
	f := newFlags(v.name)
	run := v.define(f)
	for _, word := range s.Args {
		if word != "help" && isHelp(word) {
			return v.help(s.Stdout, f)
		}
	}
	operands, err := f.parse(s.Args)
	if err == nil {
		switch {
		case len(operands) > v.max:
			err = fmt.Errorf("unexpected argument %q", operands[v.max])
		case len(operands) < v.min:
			err = fmt.Errorf("no %s", strings.Join(strings.Fields(v.operands)[len(operands):], " "))
		}
	}
	if err != nil {
		return v.misused(err)
	}
	if err := run(ctx, s, operands); err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	return nil
}

func (v verb) misused(err error) error {
	return hint.Wrap(guestcli.Usagef("%s: %w", v.name, err), "see license_server %s -help", v.name)
}

func (v verb) usage() string {
	words := []string{v.name}
	f := newFlags(v.name)
	v.define(f)
	if v.operands != "" {
		words = append(words, v.operands)
	}
	for _, name := range f.names {
		words = append(words, "["+name+"]")
	}
	return strings.Join(words, " ")
}

func (v verb) help(w io.Writer, f *flags) error {
	var b strings.Builder
	fmt.Fprintf(&b, "license_server %s: %s\n\nUsage:\n  license_server %s\n", v.name, v.summary, v.usage())
	if len(f.names) > 0 {
		b.WriteString("\nFlags:\n")
	}
	for i, name := range f.names {
		fmt.Fprintf(&b, "  %-28s %s\n", name, f.help[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
