// Package tool runs the programs that image builds need and says which
// distribution package a missing one is in.
package tool

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Need is a file or, without a slash, a program in PATH, and the apt package
// that it comes with.
type Need struct{ Name, Package string }

// Check returns an error that names everything in needs that is missing, with
// the one command that installs it as its hint.
func Check(needs []Need) error {
	var names, packages []string
	for _, n := range needs {
		if present(n.Name) {
			continue
		}
		names = append(names, n.Name)
		if !slices.Contains(packages, n.Package) {
			packages = append(packages, n.Package)
		}
	}
	if names == nil {
		return nil
	}
	return hint.Wrap(fmt.Errorf("missing on this machine: %s", strings.Join(names, ", ")),
		"apt-get install %s", strings.Join(packages, " "))
}

func present(name string) bool {
	if strings.Contains(name, "/") {
		_, err := os.Stat(name)
		return err == nil
	}
	_, found := run.Find(name, os.Getenv("PATH"))
	return found
}

// Run runs the program to its end. It does not outlive this process: what it
// writes would otherwise get in the way of the next run's clean-up.
func Run(ctx context.Context, c run.Cmd) error {
	// The death signal comes when the thread that forked ends, so keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := syscall.SysProcAttr{}
	if c.SysProcAttr != nil {
		attr = *c.SysProcAttr
	}
	attr.Pdeathsig = syscall.SIGKILL
	c.SysProcAttr = &attr
	return c.Run(ctx)
}
