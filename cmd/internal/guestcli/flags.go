package guestcli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Flag is one flag of a command. Flags have one dash, as in the guide; two are
// taken, too.
type Flag struct {
	Name     string
	Arg      string // what follows it, for the help; "" for a flag that is given or not
	Help     string
	Kind     Kind   // of what follows
	Values   string // those there are, as in "one|two", for completion; others are not refused here
	Setting  bool   // it may come from the environment, or from the file of settings, too
	Default  string // what it is when nothing says otherwise
	Required bool
	Min, Max int  // how many words follow it; 0, 0 is one word, or none when Arg is ""
	Repeat   bool // it may be given more than once
}

// Many is a Max for all words up to the next flag.
const Many = 1 << 10

// Kind is what a word is.
type Kind int

// Kinds of words. Numbers and durations are checked when they are read.
const (
	Plain    Kind = iota
	File          // the path of a file
	Dir           // the path of a directory
	Number        // an int
	Duration      // as time.ParseDuration reads it
	Rate          // as ParseRate reads it
)

func (f Flag) words() (min, max int) {
	if f.Arg != "" && f.Max == 0 {
		return 1, 1
	}
	return f.Min, f.Max
}

// Call is a command line that was taken apart.
type Call struct {
	Env
	Operands []string
	flags    []Flag
	values   map[string][][]string // of each flag, for each time it is given, its words
	file     settings
}

// Has tells whether the command line has a flag, or a setting says so of one that
// takes no word.
func (c *Call) Has(name string) bool {
	if len(c.values[name]) > 0 {
		return true
	}
	for _, f := range c.flags {
		if f.Name == name && f.Arg == "" {
			value, _ := c.setting(f)
			on, _ := strconv.ParseBool(value) // parse has seen it
			return on
		}
	}
	return false
}

// Text is the word of a flag that takes one: from the command line, else from the
// environment or the file of settings, else its default.
func (c *Call) Text(name string) string {
	for _, f := range c.flags {
		if f.Name == name {
			value, _ := c.text(f)
			return value
		}
	}
	return ""
}

// text is the word of a flag, and how whoever gave it knows it.
func (c *Call) text(f Flag) (value, source string) {
	if words := c.values[f.Name]; len(words) > 0 && len(words[0]) > 0 {
		return words[0][0], "-" + f.Name
	}
	if value, source := c.setting(f); value != "" {
		return value, source
	}
	return f.Default, "-" + f.Name
}

// Number is the word of a flag of that kind.
func (c *Call) Number(name string) int {
	n, _ := strconv.Atoi(c.Text(name)) // parse has seen it
	return n
}

// Duration is the word of a flag of that kind.
func (c *Call) Duration(name string) time.Duration {
	d, _ := time.ParseDuration(c.Text(name)) // parse has seen it
	return d
}

// Rate is the word of a flag of that kind.
func (c *Call) Rate(name string) (perSecond float64, atOnce int) {
	perSecond, atOnce, _ = ParseRate(c.Text(name)) // parse has seen it
	return perSecond, atOnce
}

// ParseRate parses PER-SECOND:AT-ONCE, as in 50:200 or 0.5:10: how much there may be
// in a second in the long run, more than none, and how much at once, from 1.
func ParseRate(text string) (perSecond float64, atOnce int, err error) {
	a, b, ok := strings.Cut(text, ":")
	perSecond, errA := strconv.ParseFloat(a, 64)
	atOnce, errB := strconv.Atoi(b)
	if !ok || errA != nil || errB != nil || !(perSecond > 0) || math.IsInf(perSecond, 0) || atOnce < 1 {
		return 0, 0, errors.New("want how many a second and how many at once, as in 50:200")
	}
	return perSecond, atOnce, nil
}

// All are the words of a flag that takes many, in their order.
func (c *Call) All(name string) []string { return slices.Concat(c.values[name]...) }

// Each are a flag's words, for each time that it is given.
func (c *Call) Each(name string) [][]string { return c.values[name] }

// parse takes a command line apart. A word that begins with - where a flag may be
// is a flag, spelled -name WORD, -name=WORD or, when its name is one letter,
// -nWORD. Behind a -- all are operands.
func (c *Command) parse(env Env, file settings, args []string) (*Call, error) {
	call := &Call{Env: env, flags: c.Flags, values: map[string][][]string{}, file: file}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			call.Operands = append(call.Operands, args...)
			break
		}
		if len(word) < 2 || word[0] != '-' {
			call.Operands = append(call.Operands, word)
			continue
		}
		f, glued, ok := c.flag(word)
		if !ok {
			return nil, c.unknownFlag(word)
		}
		if call.Has(f.Name) && !f.Repeat {
			return nil, fmt.Errorf("-%s is given twice", f.Name)
		}
		var words []string
		words, args = c.take(f, glued, args)
		if min, _ := f.words(); len(words) < min {
			return nil, fmt.Errorf("-%s needs %s", f.Name, f.Arg)
		}
		call.values[f.Name] = append(call.values[f.Name], words)
	}
	return call, c.check(call)
}

// check wants what is required, and words of their kinds.
func (c *Command) check(call *Call) error {
	for _, f := range c.Flags {
		text, source := call.text(f)
		if f.Required && text == "" && !call.Has(f.Name) {
			return fmt.Errorf("no -%s %s", f.Name, f.Arg)
		}
		if err := f.checkValue(text); err != nil {
			return fmt.Errorf("%s %q: %w", source, text, err)
		}
	}
	switch n := len(call.Operands); {
	case n > c.Max:
		return fmt.Errorf("unexpected argument %q", call.Operands[c.Max])
	case n < c.Min:
		return fmt.Errorf("no %s", strings.Join(strings.Fields(c.Operands)[n:], " "))
	}
	return nil
}

func (k Kind) check(text string) error {
	switch k {
	case Number:
		if _, err := strconv.Atoi(text); err != nil {
			return fmt.Errorf("want a number")
		}
	case Duration:
		if _, err := time.ParseDuration(text); err != nil {
			return fmt.Errorf("want a duration, as in 90s or 1h30m")
		}
	case Rate:
		_, _, err := ParseRate(text)
		return err
	}
	return nil
}

func (c *Command) unknownFlag(word string) error {
	err := fmt.Errorf("unknown flag %q", word)
	var names []string
	for _, f := range c.Flags {
		names = append(names, f.Name)
	}
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	if near := nearest(name, names); near != "" {
		return hint.Wrap(err, "did you mean -%s?", near)
	}
	return err
}

// take returns the words that follow a flag, and what follows them.
func (c *Command) take(f Flag, glued string, args []string) (words, rest []string) {
	if glued != "" {
		words = append(words, glued)
	}
	_, max := f.words()
	for len(words) < max && len(args) > 0 {
		// A word with a dash is a value only where exactly one is wanted and no
		// flag is spelled so.
		if strings.HasPrefix(args[0], "-") && len(args[0]) > 1 {
			if _, _, isFlag := c.flag(args[0]); max != 1 || isFlag || args[0] == "--" {
				break
			}
		}
		words, args = append(words, args[0]), args[1:]
	}
	return words, args
}

// flag returns the flag that a word names, and what is glued to it.
func (c *Command) flag(word string) (f Flag, glued string, ok bool) {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	for _, f := range c.Flags {
		if f.Name == name {
			return f, "", true
		}
	}
	name, value, hasValue := strings.Cut(name, "=")
	for _, f := range c.Flags {
		if f.Name == name && hasValue && f.Arg != "" && value != "" {
			return f, value, true
		}
	}
	if strings.HasPrefix(word, "--") {
		return Flag{}, "", false
	}
	for _, f := range c.Flags {
		if len(f.Name) == 1 && f.Arg != "" && strings.HasPrefix(word[1:], f.Name) {
			return f, word[2:], true
		}
	}
	return Flag{}, "", false
}
