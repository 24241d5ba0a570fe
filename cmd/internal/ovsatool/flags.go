package ovsatool

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
)

// flag is one flag of a verb. The tool's flags have one dash, as in the guide;
// two are taken, too.
type flag struct {
	name     string
	args     string // what follows it, for the help; "" for a flag that is given or not
	help     string
	required bool
	min, max int  // how many words follow it; 0, 0 is one word, or none when args is ""
	repeat   bool // it may be given more than once
}

// greedy is a flag's max when it takes all words up to the next flag.
const greedy = 1 << 10

// of is the program that has the verb.
func (v verb) of() string { return cmp.Or(v.program, "ovsatool") }

func (f flag) words() (min, max int) {
	if f.args != "" && f.max == 0 {
		return 1, 1
	}
	return f.min, f.max
}

// verb is a command of the tool.
type verb struct {
	program string // whose it is, "" for ovsatool
	name    string // with its group: "keygen -storekey"
	summary string
	flags   []flag
	operand string // what may follow the flags; "" for nothing
	min     int    // how many operands there are at least
	max     int    // and at most
	example string // without the program's name
	run     action
}

// call is a verb's command line, parsed.
type call struct {
	values   map[string][][]string // of each flag, for each time it is given, its words
	operands []string
}

func (c call) has(name string) bool { return len(c.values[name]) > 0 }

// get is the word of a flag that takes one, or "".
func (c call) get(name string) string {
	if !c.has(name) || len(c.values[name][0]) == 0 {
		return ""
	}
	return c.values[name][0][0]
}

// all are the words of a flag that takes many, in their order.
func (c call) all(name string) []string { return slices.Concat(c.values[name]...) }

// parse takes a command line apart. A word that begins with - where a flag may be
// is a flag, spelled -name WORD or, when its name is one letter, -nWORD.
func (v verb) parse(args []string) (call, error) {
	c := call{values: map[string][][]string{}}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if len(word) < 2 || word[0] != '-' {
			c.operands = append(c.operands, word)
			continue
		}
		f, glued, ok := v.find(word)
		if !ok {
			return call{}, v.usage("unknown flag %q", word)
		}
		if c.has(f.name) && !f.repeat {
			return call{}, v.usage("-%s is given twice", f.name)
		}
		var words []string
		words, args = v.take(f, glued, args)
		if min, _ := f.words(); len(words) < min {
			return call{}, v.usage("-%s needs %s", f.name, f.args)
		}
		c.values[f.name] = append(c.values[f.name], words)
	}
	for _, f := range v.flags {
		if f.required && !c.has(f.name) {
			return call{}, v.usage("no -%s %s", f.name, f.args)
		}
	}
	switch {
	case len(c.operands) > v.max:
		return call{}, v.usage("unexpected argument %q", c.operands[v.max])
	case len(c.operands) < v.min:
		return call{}, v.usage("no %s", v.operand)
	}
	return c, nil
}

// take returns the words that follow a flag, and what follows them.
func (v verb) take(f flag, glued string, args []string) (words, rest []string) {
	if glued != "" {
		words = append(words, glued)
	}
	_, max := f.words()
	for len(words) < max && len(args) > 0 {
		// A word with a dash is a value only where exactly one is wanted and no
		// flag is spelled so.
		if strings.HasPrefix(args[0], "-") && len(args[0]) > 1 {
			if _, _, isFlag := v.find(args[0]); max != 1 || isFlag {
				break
			}
		}
		words, args = append(words, args[0]), args[1:]
	}
	return words, args
}

// find returns the flag that a word names, and what is glued to it.
func (v verb) find(word string) (f flag, glued string, ok bool) {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	for _, f := range v.flags {
		if f.name == name {
			return f, "", true
		}
	}
	name, value, hasValue := strings.Cut(name, "=")
	for _, f := range v.flags {
		if f.name == name && hasValue && f.args != "" && value != "" {
			return f, value, true
		}
	}
	if strings.HasPrefix(word, "--") {
		return flag{}, "", false
	}
	for _, f := range v.flags {
		if len(f.name) == 1 && f.args != "" && strings.HasPrefix(word[1:], f.name) {
			return f, word[2:], true
		}
	}
	return flag{}, "", false
}

func (v verb) usage(format string, args ...any) error {
	err := guestcli.Usagef("%s: %w", v.name, fmt.Errorf(format, args...))
	return hint.Wrap(err, "see %s %s -help", v.of(), v.name)
}

// line is the verb's usage in one line.
func (v verb) line() string {
	parts := []string{v.name}
	for _, f := range v.flags {
		s := "-" + f.name
		if f.args != "" {
			s += " " + f.args
		}
		if !f.required {
			s = "[" + s + "]"
		}
		if f.repeat {
			s += "..."
		}
		if f.required || len(f.name) == 1 {
			parts = append(parts, s)
		}
	}
	if v.operand != "" {
		parts = append(parts, v.operand)
	}
	return strings.Join(parts, " ")
}

func (v verb) writeHelp(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n\nUsage:\n  %s %s\n", v.of(), v.name, v.summary, v.of(), v.line())
	if len(v.flags) > 0 {
		b.WriteString("\nFlags:\n")
	}
	for _, f := range v.flags {
		left := "-" + f.name
		if f.args != "" {
			left += " " + f.args
		}
		note := ""
		if f.required {
			note = " (required)"
		}
		fmt.Fprintf(&b, "  %-28s %s%s\n", left, f.help, note)
	}
	if v.example != "" {
		fmt.Fprintf(&b, "\nExample:\n  %s %s\n", v.of(), v.example)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
