package guestcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/buildinfo"
)

// manual writes the program's manual page into a directory. `make man` calls it.
func (p Program) manual(words []string) error {
	if len(words) != 1 {
		return Usagef("man: want a directory")
	}
	if err := os.MkdirAll(words[0], 0o755); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	return atomicfile.WriteFile(filepath.Join(words[0], p.Name+".1"), p.page(), 0o644)
}

// page is the manual page, in the macros of man(7). A fixed date keeps it the same
// for the same source.
func (p Program) page() []byte {
	var b strings.Builder
	title := strings.ToUpper(p.Name)
	fmt.Fprintf(&b, ".TH %s 1 \"Jan 1970\" \"ovsactl %s\" \"ovsactl\"\n", title, roff(buildinfo.Version()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(p.Name), roff(p.Summary))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I COMMAND\n[\\fIFLAGS\\fR] [\\fIARGUMENTS\\fR]\n", roff(p.Name))
	b.WriteString(".SH COMMANDS\n")
	for i := range p.Commands {
		c := &p.Commands[i]
		fmt.Fprintf(&b, ".SS %s\n%s\n.PP\n.B %s\n%s\n", roff(c.Name), roff(sentence(c.Summary)), roff(p.Name), roff(c.usage()))
		for _, f := range c.Flags {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roff("-"+f.Name))
			if f.Arg != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(f.Arg))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(sentence(f.about())))
		}
		if c.Example != "" {
			fmt.Fprintf(&b, ".PP\nExample:\n.PP\n.nf\n%s\n.fi\n", roff("    "+p.Name+" "+c.Example))
		}
	}
	b.WriteString(".SH FLAGS\nA flag has one dash or two, and its argument follows in the next word or behind a \"=\". Behind a \"\\-\\-\" no word is a flag.\n")
	p.settingsPage(&b)
	b.WriteString(".SH EXIT STATUS\n")
	for _, code := range []struct {
		n       int
		meaning string
	}{{exitOK, "done"}, {exitError, "an error"}, {exitUsage, "a command line that makes no sense"}, {exitInterrupted, "interrupted"}} {
		fmt.Fprintf(&b, ".TP\n%d\n%s\n", code.n, code.meaning)
	}
	return []byte(b.String())
}

// settingsPage is what the page says of settings.
func (p Program) settingsPage(b *strings.Builder) {
	names, flags := p.settings()
	if len(names) == 0 {
		return
	}
	b.WriteString(".SH ENVIRONMENT\nA flag that is not given is taken from its variable, else from the file of settings.\n")
	for _, name := range names {
		f := flags[name]
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(name), roff(sentence(f.Help+", as -"+f.Name)))
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\\fR\nThe file of settings.\n", roff(configVariable))
	fmt.Fprintf(b, ".SH FILES\n.TP\n\\fB%s\\fR\n", roff(p.Config))
	b.WriteString(roff("The settings, if it is there: lines NAME=VALUE, with the names of ENVIRONMENT, as systemd's EnvironmentFile= reads them. "+
		"Lines that begin with # are comments. Names that do not begin with OVSA_ are left to systemd.") + "\n")
}

// sentence is text with a large letter and a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// roff is text as it is in a line of its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
