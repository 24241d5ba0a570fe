package guestcli

import (
	"errors"
	"fmt"
	"regexp"
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
	_, known := p.settings()
	if len(known) > 0 && p.Config == "" {
		errs = append(errs, fmt.Errorf("%s: it has settings, and no file of them", p.Name))
	}
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
			if secret.MatchString(f.Name + " " + f.Arg) {
				wrong(c, "-%s: secrets come from a terminal or a file of their own", f.Name)
			}
			if err := f.Kind.check(f.Default); err != nil && f.Default != "" {
				wrong(c, "-%s: its default: %w", f.Name, err)
			}
			if err := f.checkSetting(known[variable(f.Name)]); err != nil {
				wrong(c, "-%s: %w", f.Name, err)
			}
			flags[f.Name] = true
		}
		if flags["json"] == (c.NoJSON != "") {
			wrong(c, "want -json, or why there is none")
		}
		if c.Example == "" {
			continue
		}
		words, ok := strings.CutPrefix(c.Example, c.Name+" ")
		if _, err := c.parse(Env{}, settings{}, strings.Fields(joined(words))); !ok || err != nil {
			wrong(c, "its example: %w", err)
		}
	}
	return errors.Join(errs...)
}

// secret is what names a secret, which others would see in a command line or in the
// environment.
var secret = regexp.MustCompile(`(?i)pass(word|phrase)|secret|token|credential`)

// checkSetting finds what cannot be a setting, and one that means something else in
// another command: of is the same flag there.
func (f Flag) checkSetting(of Flag) error {
	if !f.Setting {
		return nil
	}
	if _, max := f.words(); f.Repeat || max > 1 || len(f.Name) == 1 {
		return errors.New("a setting has one word, and a name that tells what it is")
	}
	if f.Kind != of.Kind || f.Arg != of.Arg || f.Default != of.Default {
		return errors.New("the setting means something else in another command")
	}
	return nil
}

// joined makes each text in quotes, and each $(command), one word.
func joined(s string) string {
	parts := strings.Split(strings.NewReplacer("$(", `"`, ")", `"`).Replace(s), `"`)
	for i := 1; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(parts[i], " ", "_")
	}
	return strings.Join(parts, "")
}
