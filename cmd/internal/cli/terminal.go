package cli

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/remote"
)

// rawTerminal makes the terminal at env's input and output raw. Without one, or
// with only one of both, ok is false and nothing was done. The caller must call
// restore when ok.
func rawTerminal(env Env) (t remote.Terminal, restore func(), ok bool, err error) {
	in, isFile := env.Stdin.(*os.File)
	out, isFileToo := env.Stdout.(*os.File)
	if !isFile || !isFileToo || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return remote.Terminal{}, nil, false, nil
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return remote.Terminal{}, nil, false, fmt.Errorf("set terminal raw: %w", err)
	}
	sizes, unwatch := watchSize(out)
	t = remote.Terminal{In: in, Out: out, Err: env.Stderr, Type: env.Getenv("TERM"), Size: sizeOf(out), Resized: sizes}
	return t, func() { unwatch(); term.Restore(int(in.Fd()), old) }, true, nil
}

func sizeOf(f *os.File) remote.Size {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return remote.Size{Width: 80, Height: 24}
	}
	return remote.Size{Width: w, Height: h}
}

// watchSize sends the terminal's size whenever it changes.
func watchSize(f *os.File) (<-chan remote.Size, func()) {
	signals := make(chan os.Signal, 1)
	sizes := make(chan remote.Size)
	over := make(chan struct{})
	signal.Notify(signals, unix.SIGWINCH)
	go func() {
		for {
			select {
			case <-over:
				return
			case <-signals:
			}
			select {
			case <-over:
				return
			case sizes <- sizeOf(f):
			}
		}
	}()
	return sizes, func() { signal.Stop(signals); close(over) }
}
