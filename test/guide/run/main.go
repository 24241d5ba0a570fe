// Command run runs docs/guide.md in a lab: `make demo` is that.
//
//	go run ./test/guide/run -log FILE docs/guide.md
//
// It prints a line for each step, and leaves nothing behind but the log and what the page
// has made, whatever happens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/test/guide"
)

func main() {
	program := flag.String("program", "bin/ovsactl", "ovsactl, which the page may build")
	log := flag.String("log", "dist/demo.log", "where all output goes")
	keep := flag.Bool("keep", false, "leave the lab when a step fails, to look at it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demonstrate(ctx, *program, *log, flag.Arg(0), *keep); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\nhint: all output is in %s\n", err, *log)
		os.Exit(1)
	}
}

func demonstrate(ctx context.Context, program, logFile, name string, keep bool) (err error) {
	page, err := os.Open(name)
	if err != nil {
		return err
	}
	defer page.Close()
	blocks, err := guide.Parse(page)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	began := time.Now()
	lab := lab{program: program, name: fmt.Sprintf("demo-%d", os.Getpid()), log: log}
	err = guide.Run(ctx, blocks, guide.Options{Shell: lab.shell, Env: guide.Small(program), Log: log, Report: os.Stdout})
	if err != nil && keep && lab.up {
		fmt.Fprintf(os.Stderr, "the lab is left: %[1]s lab shell --name %[2]s; remove it: %[1]s lab down --name %[2]s\n", program, lab.name)
		return errors.Join(err, log.Close())
	}
	// Also when it was interrupted.
	err = errors.Join(err, lab.down(context.WithoutCancel(ctx)), log.Close())
	if err == nil {
		fmt.Printf(guide.Name+"%s\n", "All of it", guide.Seconds(time.Since(began)))
	}
	return err
}

// lab is a host inside this one. It is there when it is needed: the page may begin with
// building what makes it.
type lab struct {
	program, name string
	log           io.Writer
	up            bool
}

func (l *lab) shell(ctx context.Context, place string) ([]string, error) {
	if place != guide.Build && !l.up {
		l.up = true // also where only half of it is
		if err := l.do(ctx, "up"); err != nil {
			return nil, err
		}
	}
	return guide.InLab(l.program, l.name)(ctx, place)
}

func (l *lab) down(ctx context.Context) error {
	if !l.up {
		return nil
	}
	return l.do(ctx, "down")
}

func (l *lab) do(ctx context.Context, verb string) error {
	c := run.Cmd{Path: l.program, Args: []string{"lab", verb, "--name", l.name}, Stdout: l.log}
	return c.Run(ctx)
}
