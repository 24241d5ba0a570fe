package guestcli

import (
	"errors"
	"fmt"
	"strings"
)

// Check finds mistakes in a program's table: what its help needs and has not, names
// that there are twice, an example that does not parse. Programs' tests call it.
func (p Program) Check() error {
	var errs []error
	wrong := func(c *Command, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %s: %w", p.Name, c.Name, fmt.Errorf(format, args...)))
	}
	names := map[string]bool{}
	for i := range p.Commands {
		c := &p.Commands[i]
		group, _, grouped := strings.Cut(c.Name, " ")
		_, alone := p.find([]string{group})
		switch {
		case names[c.Name]:
			wrong(c, "it is there twice")
		case c.Summary == "" || c.Run == nil:
			wrong(c, "no summary, or nothing to run")
		case grouped && alone == 0 && p.summaryOf(group) == "":
			wrong(c, "its group has no summary")
		case c.Min > len(strings.Fields(c.Operands)) || c.Max > 0 && c.Operands == "":
			wrong(c, "its operands have no names")
		}
		names[c.Name] = true
		flags := map[string]bool{}
		for _, f := range c.Flags {
			if f.Help == "" || flags[f.Name] {
				wrong(c, "-%s has no help, or is there twice", f.Name)
			}
			if err := f.Kind.check(f.Default); err != nil && f.Default != "" {
				wrong(c, "-%s: its default: %w", f.Name, err)
			}
			flags[f.Name] = true
		}
		if c.Example == "" {
			continue
		}
		words, ok := strings.CutPrefix(c.Example, c.Name+" ")
		if _, err := c.parse(Env{}, strings.Fields(joined(words))); !ok || err != nil {
			wrong(c, "its example: %w", err)
		}
	}
	return errors.Join(errs...)
}

// joined makes each text in quotes, and each $(command), one word.
func joined(s string) string {
	parts := strings.Split(strings.NewReplacer("$(", `"`, ")", `"`).Replace(s), `"`)
	for i := 1; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(parts[i], " ", "_")
	}
	return strings.Join(parts, "")
}
