package licenseserver

import (
	"flag"
	"io"
	"strings"
	"time"
)

// flags are a verb's flags. They may stand before, between and behind its
// operands, with one dash or two.
type flags struct {
	set   *flag.FlagSet
	names []string // with what follows them, in the order of their declaration
	help  []string
}

func newFlags(name string) *flags {
	f := &flags{set: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.set.SetOutput(io.Discard) // what is wrong is told by the error alone
	return f
}

func (f *flags) declared(name, arg, help string) {
	f.names = append(f.names, strings.TrimSpace("-"+name+" "+arg))
	f.help = append(f.help, help)
}

func (f *flags) text(name, arg, value, help string) *string {
	f.declared(name, arg, help+defaultOf(value))
	return f.set.String(name, value, "")
}

func (f *flags) number(name string, value int, help string) *int {
	f.declared(name, "N", help)
	return f.set.Int(name, value, "")
}

func (f *flags) duration(name string, value time.Duration, help string) *time.Duration {
	f.declared(name, "DURATION", help+defaultOf(value.String()))
	return f.set.Duration(name, value, "")
}

func (f *flags) yes(name, help string) *bool {
	f.declared(name, "", help)
	return f.set.Bool(name, false, "")
}

func defaultOf(value string) string {
	if value == "" {
		return ""
	}
	return " (default " + value + ")"
}

// The flags that many verbs have.
func (f *flags) dir() *string {
	return f.text("dir", "DIR", DefaultDir, "the server's keys and certificates")
}

func (f *flags) db() *string {
	return f.text("db", "FILE|postgres://...", DefaultDB, "the database")
}

func (f *flags) json() *bool { return f.yes("json", "as JSON") }

// parse returns the operands.
func (f *flags) parse(args []string) (operands []string, err error) {
	for {
		if err := f.set.Parse(args); err != nil {
			return nil, err
		}
		rest := f.set.Args()
		if len(rest) == 0 {
			return operands, nil
		}
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}
