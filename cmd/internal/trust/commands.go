package trust

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// Group is what a program's help says of the commands in one line.
func Group() guestcli.Group {
	return guestcli.Group{Name: "trust", Summary: "choose whose certificates are believed, and for what"}
}

// Commands are a program's: stores are those that a command line means, whose flags
// say where they are. Where stores has no default a purpose has to be named.
func Commands(program string, stores func(*guestcli.Call) Stores, flags ...guestcli.Flag) []guestcli.Command {
	known := stores(&guestcli.Call{})
	purposes := strings.Join(known.Purposes(), "|")
	one := guestcli.Flag{Name: "for", Arg: purposes, Values: purposes, Help: "what it is believed for", Default: known.Default, Required: known.Default == ""}
	only := guestcli.Flag{Name: "for", Arg: purposes, Values: purposes, Help: "only what is believed for this"}
	with := func(f guestcli.Flag) []guestcli.Flag { return append([]guestcli.Flag{f, guestcli.JSON()}, flags...) }
	named := func(run func(c *guestcli.Call, s Store) error) func(context.Context, *guestcli.Call) error {
		return func(_ context.Context, c *guestcli.Call) error {
			s, err := stores(c).Named(c.Text("for"))
			if err != nil {
				return guestcli.Usagef("-for: %w", err)
			}
			return run(c, s)
		}
	}
	return []guestcli.Command{
		{Name: "trust add", Summary: "believe a certificate: an authority's, or a self-signed one; - is standard input", Operands: "FILE...", Kind: guestcli.File, Min: 1, Max: guestcli.Many,
			Flags: with(one), Run: named(add)},
		{Name: "trust ls", Summary: "list the trust stores, what is in them, and what does not work because one is empty", Flags: with(only),
			Run: func(_ context.Context, c *guestcli.Call) error { return list(c, stores(c), program+" trust add -for") }},
		{Name: "trust rm", Summary: "believe a certificate no longer; the first 8 digits of its SHA-256 are enough", Operands: "SHA-256", Min: 1, Max: 1,
			Flags: with(one), Run: named(remove)},
	}
}

func add(c *guestcli.Call, s Store) error {
	added, err := s.add(c)
	for _, a := range added {
		c.Say("believed for %s: %s  %s", a.For, a.ID, visible.Line(a.Subject))
	}
	if len(added) > 0 && s.Then != "" {
		c.Say("%s", s.Then)
	}
	if err != nil || !c.Has("json") {
		return err
	}
	return guestcli.WriteJSON(c.Stdout, added)
}

// add adds what the operands name, which - in their place reads from standard input.
func (s Store) add(c *guestcli.Call) ([]Certificate, error) {
	if !slices.Equal(c.Operands, []string{"-"}) {
		return s.Add(c.Operands...)
	}
	data, err := io.ReadAll(io.LimitReader(c.Stdin, pki.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > pki.MaxFile {
		return nil, fmt.Errorf("standard input has more than %d bytes", pki.MaxFile)
	}
	certs, err := pki.ParsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	added, err := s.one("standard input", certs)
	if err != nil {
		return nil, err
	}
	return []Certificate{added}, nil
}

func remove(c *guestcli.Call, s Store) error {
	removed, err := s.Remove(c.Operands[0])
	if err != nil {
		return err
	}
	if s.Then != "" {
		c.Say("%s", s.Then)
	}
	return c.Report(removed, "no longer believed for %s: %s  %s", removed.For, removed.ID, visible.Line(removed.Subject))
}

func list(c *guestcli.Call, stores Stores, add string) error {
	shown := stores.All
	if only := c.Text("for"); only != "" {
		s, err := stores.Named(only)
		if err != nil {
			return guestcli.Usagef("-for: %w", err)
		}
		shown = []Store{s}
	}
	all, err := List(shown...)
	if err != nil {
		return err
	}
	if c.Has("json") {
		return guestcli.WriteJSON(c.Stdout, all)
	}
	return Write(c.Stdout, all, add)
}
