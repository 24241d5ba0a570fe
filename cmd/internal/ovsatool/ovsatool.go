// Package ovsatool is the command line with which an ISV protects models and
// sells licences, and a customer makes the keys that licences are for.
//
// Each verb is a row of a table: its flags, from which its help is made, and a
// function from them to calls into licensing.
package ovsatool

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
)

// Where things are when no flag says otherwise.
const (
	DefaultTrust = "/opt/ovsa/kvm/trust"
	DefaultTPM   = "/dev/tpmrm0"
)

// Ports are what the tool needs of the machine.
type Ports struct {
	Now func() time.Time
	// Sealer returns the TPM at an address, to seal under the values of PCRs; of
	// none, under any.
	Sealer func(address string, pcrs []int) licensing.Sealer
	// Secret asks whoever is at the terminal for a secret, without an echo. It
	// reads a line of in where there is no terminal.
	Secret func(in io.Reader, prompt string) (string, error)
}

// action runs a verb.
type action func(ctx context.Context, s session, c call) error

// session is a run of the tool.
type session struct {
	guestcli.Env
	Ports
}

func (s session) say(format string, args ...any) { fmt.Fprintf(s.Stderr, format+"\n", args...) }

// Program is ovsatool on a machine.
func Program(p Ports) guestcli.Program {
	program := guestcli.Program{Name: "ovsatool", Summary: "protect models and license them"}
	for _, g := range groups() {
		program.Commands = append(program.Commands, guestcli.Command{
			Name: g.name, Usage: g.name + g.usage, Summary: g.summary,
			Run: func(ctx context.Context, env guestcli.Env) error {
				return g.run(ctx, session{env, p})
			},
		})
	}
	return program
}

// group is a command and its verbs; the first word chooses one where there are
// many.
type group struct {
	name, usage, summary string
	verbs                []verb
}

func groups() []group {
	return []group{
		{"keygen", " -storekey | -storecert | -getcert | -sign | -verify | -reseal ...", "make and use a key store", keygenVerbs()},
		single(controlAccessVerb()),
		single(licgenVerb()),
		single(saleVerb()),
		single(updateVerb()),
		single(inspectVerb()),
		{"trust", " add FILE | ls | rm SHA-256", "choose the certificates that are believed", trustVerbs()},
	}
}

func single(v verb) group {
	return group{v.name, v.line()[len(v.name):], v.summary, []verb{v}}
}

func (g group) run(ctx context.Context, s session) error {
	v := g.verbs[0]
	if len(g.verbs) > 1 {
		first := ""
		if len(s.Args) > 0 {
			first = s.Args[0]
		}
		if isHelp(first) {
			return g.help(s.Stdout)
		}
		i := slices.IndexFunc(g.verbs, func(v verb) bool { return v.name == g.name+" "+first })
		if i < 0 {
			err := guestcli.Usagef("%s: unknown command %q", g.name, first)
			if first == "" {
				err = guestcli.Usagef("%s: no command", g.name)
			}
			return hint.Wrap(err, "ovsatool %s%s", g.name, g.usage)
		}
		v = g.verbs[i]
		s.Args = s.Args[1:]
	}
	ownH := slices.ContainsFunc(v.flags, func(f flag) bool { return f.name == "h" })
	if slices.ContainsFunc(s.Args, func(word string) bool { return isHelp(word) && (word != "-h" || !ownH) }) {
		return v.writeHelp(s.Stdout)
	}
	c, err := v.parse(s.Args)
	if err != nil {
		return err
	}
	if err := v.run(ctx, s, c); err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	return nil
}

func (g group) help(w io.Writer) error {
	for i, v := range g.verbs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := v.writeHelp(w); err != nil {
			return err
		}
	}
	return nil
}

func isHelp(word string) bool {
	return word == "-h" || word == "-help" || word == "--help"
}
