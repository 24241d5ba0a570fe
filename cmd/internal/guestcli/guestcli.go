// Package guestcli is the command line of the programs that run in guests. They
// are small and static: no libvirt, no HCL, no libraries of the distribution.
package guestcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/hint"
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
	Getenv         func(string) string
}

// Program is one program: what it is for and what it can do.
type Program struct {
	Name, Summary string
	Commands      []Command
	// Later names commands of the guide that this version does not have.
	Later []string
}

// Command is one verb.
type Command struct {
	Name, Usage, Summary string
	Run                  func(ctx context.Context, env Env) error // Args without the verb
}

// usageError is a wrong command line.
type usageError struct{ error }

// Usagef is the error of a wrong command line, which has its own exit code.
func Usagef(format string, args ...any) error { return usagef(format, args...) }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the program in this process and returns its exit code. The first
// signal ends its context, a second one the process.
func (p Program) Main() int { return p.MainWith(os.Args[1:]) }

// MainWith is Main with other arguments than the process has.
func (p Program) MainWith(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return p.Run(ctx, Env{Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv})
}

// Run runs one command line and returns the exit code: 0 done, 1 error, 2 a
// command line that makes no sense, 130 interrupted.
func (p Program) Run(ctx context.Context, env Env) int {
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
	verb := ""
	if len(env.Args) > 0 {
		verb = env.Args[0]
	}
	switch verb {
	case "help", "-h", "-help", "--help":
		return p.help(env.Stdout)
	case "version", "-version", "--version":
		_, err := fmt.Fprintln(env.Stdout, p.Name, buildinfo.Version())
		return err
	}
	for _, c := range p.Commands {
		if c.Name == verb {
			env.Args = env.Args[1:]
			return c.Run(ctx, env)
		}
	}
	for _, name := range p.Later {
		if name == verb {
			return hint.Wrap(usagef("%s is not in this version yet", p.later(verb)), "what there is: %s help", p.Name)
		}
	}
	if verb == "" {
		return hint.Wrap(usagef("no command"), "see %s help", p.Name)
	}
	return hint.Wrap(usagef("unknown command %q", verb), "see %s help", p.Name)
}

// later is how a verb that is still to come is spoken of; "" is the program
// without one.
func (p Program) later(verb string) string {
	if verb == "" {
		return "running " + p.Name
	}
	return p.Name + " " + verb
}

func (p Program) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n", p.Name, p.Summary)
	all := append([]Command{}, p.Commands...)
	all = append(all, Command{Usage: "version", Summary: "print the version"}, Command{Usage: "help", Summary: "print this"})
	for _, c := range all {
		fmt.Fprintf(&b, "  %s %s\n      %s\n", p.Name, c.Usage, c.Summary)
	}
	var names []string
	for _, name := range p.Later {
		if name != "" {
			names = append(names, name)
		}
	}
	switch {
	case len(names) > 0:
		fmt.Fprintf(&b, "\nNot in this version yet: %s.\n", strings.Join(names, ", "))
	case len(p.Later) > 0:
		fmt.Fprintf(&b, "\nNot in this version yet: %s.\n", p.later(""))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
