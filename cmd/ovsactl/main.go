// Command ovsactl turns a KVM host into a place where licensed models run only
// inside guests that can prove where they run. See `ovsactl help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ovsactl/ovsactl/cmd/internal/cli"
)

func main() { os.Exit(run()) }

// run cancels its context on the first signal; a second one kills the process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
	})
}
