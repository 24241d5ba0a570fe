// Package guestcli is the command line of the programs that run in guests. They
// are small and static: no libvirt, no HCL, no libraries of the distribution.
//
// A program is a table of commands, each with its flags. Help, completion, manual
// pages and what is said about mistakes are made from it.
package guestcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lockedmem"
)

// Exit codes.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// Env is all that a program takes from its process.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string // nil for an empty environment
}

// Say writes a line for people to Stderr.
func (e Env) Say(format string, args ...any) { fmt.Fprintf(e.Stderr, format+"\n", args...) }

func (e Env) getenv(name string) string {
	if e.Getenv == nil || name == "" {
		return ""
	}
	return e.Getenv(name)
}

// Program is one program: what it is for and what it can do.
type Program struct {
	Name, Summary string
	Commands      []Command
	Groups        []Group
	// Config is the file of settings, "" for none. It need not be there.
	Config string
	// Later names commands of the guide that this version does not have.
	Later []string
}

// Group says what the commands have in common that begin with one word.
type Group struct{ Name, Summary string }

// Command is what a program can do.
type Command struct {
	Name     string // a word, or the group's and one more: "keygen -storekey"
	Summary  string
	Flags    []Flag
	Operands string // what may stand between and behind the flags, for the help; "" for nothing
	Min, Max int    // how many operands there are
	Kind     Kind   // of operands
	Values   string // of the first operand, as in "one|two", for completion; others are not refused here
	Example  string // without the program's name
	NoJSON   string // why there is no -json, which all others have
	Run      func(ctx context.Context, c *Call) error
}

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usagef is the error of a wrong command line, which has its own exit code.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the program in this process and returns its exit code. The first
// signal ends its context, a second one the process.
func (p Program) Main() int { return p.MainWith(os.Args[1:]) }

// MainWith is Main with other arguments than the process has. The process, which may
// hold keys, is kept out of core dumps.
func (p Program) MainWith(args []string) int {
	if err := lockedmem.NoDumps(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", p.Name, err)
		return exitError
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return p.Run(ctx, Env{Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv})
}

// Run runs one command line and returns the exit code: 0 done, 1 error, 2 a
// command line that makes no sense, 130 interrupted.
func (p Program) Run(ctx context.Context, env Env) int {
	env.Getenv = Env{Getenv: env.Getenv}.getenv
	err := p.dispatch(ctx, env)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(env.Stderr, "%s: error: %v\n", p.Name, err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintf(env.Stderr, "%s: hint: %s\n", p.Name, h)
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitError
}

func (p Program) dispatch(ctx context.Context, env Env) error {
	if c, words := p.find(env.Args); c != nil {
		return p.start(ctx, c, env, env.Args[words:])
	}
	var verb string
	var rest []string
	if len(env.Args) > 0 {
		verb, rest = env.Args[0], env.Args[1:]
	}
	switch {
	case verb == "help" || isHelp(verb):
		return p.help(env.Stdout, rest)
	case strings.TrimLeft(verb, "-") == "version":
		_, err := fmt.Fprintln(env.Stdout, p.Name, buildinfo.Version())
		return err
	case verb == "completion":
		return p.completion(env.Stdout, rest)
	case verb == "__complete":
		return p.complete(env.Stdout, rest)
	case verb == "man":
		return p.manual(rest)
	case p.inGroup(verb) && len(rest) > 0 && isHelp(rest[0]):
		return p.help(env.Stdout, []string{verb})
	}
	return p.unknown(env.Args)
}

// find returns the command that the first words name, and how many they are.
func (p Program) find(words []string) (*Command, int) {
	for n := min(len(words), 2); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		for i := range p.Commands {
			if p.Commands[i].Name == name {
				return &p.Commands[i], n
			}
		}
	}
	return nil, 0
}

// inGroup tells whether there are commands that begin with a word, and have one
// more.
func (p Program) inGroup(word string) bool {
	return slices.ContainsFunc(p.Commands, func(c Command) bool { return strings.HasPrefix(c.Name, word+" ") })
}

// next are the words that may follow those of a command so far.
func (p Program) next(words ...string) []string {
	var next []string
	for _, c := range p.Commands {
		names := strings.Fields(c.Name)
		if len(names) > len(words) && slices.Equal(names[:len(words)], words) && !slices.Contains(next, names[len(words)]) {
			next = append(next, names[len(words)])
		}
	}
	return next
}

// unknown is the error of words that name no command.
func (p Program) unknown(words []string) error {
	see := fmt.Sprintf("see %s help", p.Name)
	group := ""
	if len(words) > 0 && p.inGroup(words[0]) {
		group, words = words[0], words[1:]
		see += " " + group
	}
	word, prefix := "", ""
	if len(words) > 0 {
		word = words[0]
	}
	if group != "" {
		prefix = group + ": "
	}
	if group == "" && slices.Contains(p.Later, word) {
		return hint.Wrap(Usagef("%s %s is not in this version yet", p.Name, word), "what there is: %s help", p.Name)
	}
	if word == "" {
		return hint.Wrap(Usagef("%sno command", prefix), "%s", see)
	}
	next := p.next()
	if group != "" {
		next = p.next(group)
	}
	if near := nearest(word, next); near != "" {
		see = fmt.Sprintf("did you mean %q? %s", near, see)
	}
	return hint.Wrap(Usagef("%sunknown command %q", prefix, word), "%s", see)
}

// start takes a command line apart and runs the command with it.
func (p Program) start(ctx context.Context, c *Command, env Env, args []string) error {
	own := slices.ContainsFunc(c.Flags, func(f Flag) bool { return f.Name == "h" })
	for _, word := range args {
		if word == "--" {
			break
		}
		if isHelp(word) && (word != "-h" || !own) {
			return c.help(env.Stdout, p.Name)
		}
	}
	file, err := p.readSettings(env)
	if err != nil {
		return err
	}
	call, err := c.parse(env, file, args)
	if err != nil {
		see := fmt.Sprintf("see %s %s -help", p.Name, c.Name)
		if h := hint.Of(err); h != "" {
			see = h + " " + see
		}
		return hint.Wrap(Usagef("%s: %w", c.Name, err), "%s", see)
	}
	if err := c.Run(ctx, call); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

func isHelp(word string) bool { return word == "-h" || word == "-help" || word == "--help" }

// nearest is the word that somebody may have meant, "" when none is like it.
func nearest(word string, words []string) string {
	best, least := "", min(len(word)/2, 2)+1
	for _, w := range words {
		if d := distance(strings.TrimLeft(strings.ToLower(word), "-"), strings.TrimLeft(strings.ToLower(w), "-")); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters are put in, left out, changed or swapped with the
// next between two words.
func distance(a, b string) int {
	before, last := []int{}, make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
