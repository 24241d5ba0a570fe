package guide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Shell is the command that gives a shell at a place.
type Shell func(ctx context.Context, place string) ([]string, error)

// Name is how a step is printed when it begins. Its time stands behind it.
const Name = "%-56s"

// Seconds is a time as a line has it.
func Seconds(d time.Duration) string { return fmt.Sprintf("%6.1f s", d.Seconds()) }

// Options say how a page is run.
type Options struct {
	Shell  Shell
	Env    []string  // of the shells that are no guest's
	Log    io.Writer // gets commands and all that they say
	Report io.Writer // gets a line for each step, and output that is to be shown
	// Before is called before each step, and says at which places it has ended the
	// shells; nil for nothing.
	Before func(ctx context.Context, step string) (ended []string, err error)
}

// Failed is a block whose commands did not do what the page says.
type Failed struct {
	Block
	Said string
	Err  error
}

func (f *Failed) Error() string {
	return fmt.Sprintf("%s, line %d, on %s: %v\n%s\n%s", f.Step, f.Line, f.Place, f.Err, f.Commands, f.Said)
}

func (f *Failed) Unwrap() error { return f.Err }

// Run runs the blocks in their order, and stops with the first that fails: *Failed.
func Run(ctx context.Context, blocks []Block, o Options) error {
	sessions := map[string]*session{}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		// Nothing runs in them any more, and the page may have removed their guests: how
		// they end means nothing.
		cancel()
		for _, s := range sessions {
			_ = s.end()
		}
	}()
	var began time.Time // the step
	shown := ""
	for i, b := range blocks {
		if i == 0 || blocks[i-1].Step != b.Step {
			if err := before(ctx, sessions, b.Step, o); err != nil {
				return err
			}
			fmt.Fprintf(o.Report, Name, b.Step)
			began, shown = time.Now(), ""
		}
		fmt.Fprintf(o.Log, "\n# %s, on %s\n%s", b.Step, b.Place, b.Commands)
		took := "not yet"
		if !b.Later {
			said, err := one(ctx, sessions, b, o)
			if err != nil {
				fmt.Fprintln(o.Report, "failed")
				return &Failed{b, said, err}
			}
			if b.Shown {
				shown += said
			}
			took = Seconds(time.Since(began))
		}
		if i == len(blocks)-1 || blocks[i+1].Step != b.Step {
			fmt.Fprintln(o.Report, took)
			for line := range strings.Lines(shown) {
				fmt.Fprintf(o.Report, "    %s", line)
			}
		}
	}
	return nil
}

// one runs a block in its place's shell, which it starts where there is none.
func one(ctx context.Context, sessions map[string]*session, b Block, o Options) (string, error) {
	s, is := sessions[b.Place]
	if !is {
		argv, err := o.Shell(ctx, b.Place)
		if err != nil {
			return "", err
		}
		if s, err = begin(ctx, argv, o.Env); err != nil {
			return "", err
		}
		sessions[b.Place] = s
	}
	commands := b.Commands
	if b.Refused {
		commands = refused(commands)
	}
	said, err := s.do(commands, o.Log)
	if err != nil {
		delete(sessions, b.Place)
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
	}
	return said, err
}

// InLab gives shells in a lab that is there, by ovsactl: on its host and in its guests.
// Those of Build are on the machine itself.
func InLab(program, lab string) Shell {
	return func(_ context.Context, place string) ([]string, error) {
		bash := []string{"bash", "--noprofile", "--norc"}
		run := []string{program, "lab", "run", "--name", lab, "--"}
		switch place {
		case Build:
			return bash, nil
		case Host:
			return append(run, bash...), nil
		}
		return append(append(run, program, "exec", place, "--"), bash...), nil
	}
}

// Small is its reader's environment, in which the shells find a program first, and the
// page's manifest makes guests that a small machine can emulate. It has nothing of a make
// that this is run by: the page has makes of its own.
func Small(program string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MAKE") || strings.HasPrefix(e, "MFLAGS=") })
	path := "PATH=" + filepath.Dir(program) + string(filepath.ListSeparator) + os.Getenv("PATH")
	return append(env, path, "OVSA_VAR_cpus=2", "OVSA_VAR_memory=1GiB")
}

// before does what is to be done before a step.
func before(ctx context.Context, sessions map[string]*session, step string, o Options) error {
	if o.Before == nil {
		return nil
	}
	ended, err := o.Before(ctx, step)
	for _, place := range ended {
		if s := sessions[place]; s != nil {
			_ = s.end() // as it was ended
			delete(sessions, place)
		}
	}
	return err
}
