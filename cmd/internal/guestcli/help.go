package guestcli

import (
	"fmt"
	"io"
	"strings"
)

// help prints the program's help, or that of a command or a group.
func (p Program) help(w io.Writer, words []string) error {
	if len(words) == 0 {
		return p.overview(w)
	}
	if c, n := p.find(words); c != nil && n == len(words) {
		return c.help(w, p.Name)
	}
	if len(words) > 1 || !p.inGroup(words[0]) {
		return p.unknown(words)
	}
	first := true
	for i := range p.Commands {
		if !strings.HasPrefix(p.Commands[i].Name, words[0]+" ") {
			continue
		}
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		if err := p.Commands[i].help(w, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// overview lists the commands, those of a group that has a summary in one line.
func (p Program) overview(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n", p.Name, p.Summary)
	row := func(usage, summary string) { fmt.Fprintf(&b, "  %s %s\n      %s\n", p.Name, usage, summary) }
	seen := map[string]bool{}
	for i := range p.Commands {
		c := &p.Commands[i]
		group, _, grouped := strings.Cut(c.Name, " ")
		summary := p.summaryOf(group)
		switch {
		case !grouped || summary == "":
			row(c.usage(), c.Summary)
		case !seen[group]:
			seen[group] = true
			row(group+" "+strings.Join(p.next(group), " | "), summary)
		}
	}
	row("help [COMMAND]", "print this, or what a command takes")
	row("completion bash | zsh | fish", "print a script that completes command lines")
	row("version", "print the version")
	if names, _ := p.settings(); len(names) > 0 {
		fmt.Fprintf(&b, "\nSettings, from the environment or as lines NAME=VALUE of %s\n($%s names another file); flags come first, then the environment:\n  %s\n",
			p.Config, configVariable, strings.Join(names, "\n  "))
	}
	if len(p.Later) > 0 {
		fmt.Fprintf(&b, "\nNot in this version yet: %s.\n", strings.Join(p.Later, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p Program) summaryOf(group string) string {
	for _, g := range p.Groups {
		if g.Name == group {
			return g.Summary
		}
	}
	return ""
}

// usage is the command in one line: what is required, the flags of one letter, and
// the operands.
func (c *Command) usage() string {
	parts := []string{c.Name}
	more := false
	for _, f := range c.Flags {
		if !f.Required && len(f.Name) > 1 {
			more = true
			continue
		}
		s := f.spelled()
		if !f.Required {
			s = "[" + s + "]"
		}
		if f.Repeat {
			s += "..."
		}
		parts = append(parts, s)
	}
	if more {
		parts = append(parts, "[FLAGS]")
	}
	if c.Operands != "" {
		parts = append(parts, c.Operands)
	}
	return strings.Join(parts, " ")
}

// spelled is a flag with what follows it.
func (f Flag) spelled() string {
	if f.Arg == "" {
		return "-" + f.Name
	}
	return "-" + f.Name + " " + f.Arg
}

// about is a flag's help, with what it is when it is not given.
func (f Flag) about() string {
	switch {
	case f.Required && !f.Setting && f.Default == "":
		return f.Help + " (required)"
	case f.Setting && f.Default != "":
		return fmt.Sprintf("%s (default $%s, or %s)", f.Help, variable(f.Name), f.Default)
	case f.Setting && f.Arg == "":
		return fmt.Sprintf("%s (default $%s, or false)", f.Help, variable(f.Name))
	case f.Setting:
		return fmt.Sprintf("%s (default $%s)", f.Help, variable(f.Name))
	case f.Default != "":
		return fmt.Sprintf("%s (default %s)", f.Help, f.Default)
	}
	return f.Help
}

func (c *Command) help(w io.Writer, program string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n\nUsage:\n  %s %s\n", program, c.Name, c.Summary, program, c.usage())
	if len(c.Flags) > 0 {
		b.WriteString("\nFlags:\n")
	}
	for _, f := range c.Flags {
		fmt.Fprintf(&b, "  %-28s %s\n", f.spelled(), f.about())
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExample:\n  %s %s\n", program, c.Example)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
