// Command ovsainstall installs the unpacked component that it lies in. The
// component's install.sh starts it, in guests and by hand.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/component/installer"
	"github.com/ovsactl/ovsactl/internal/hint"
)

const usage = `Usage: install.sh

Installs this component. It checks every file of the package before it changes
anything, and replaces only what differs. Where systemd runs, the component's
units are enabled the first time, and started, or started again when something of
theirs has changed; when the new version does not become ready, the old one is put
back. Killed at any point, it finishes when it is run again.

Environment:
  DESTDIR=DIR          install below DIR, without owners and users; needs no root
  OVSA_CONSUME=1       move files out of the package, which came whole
  OVSA_PACKAGE_SHA256  digest of the tarball, for the record
`

func main() { os.Exit(program(os.Args[1:], os.Stdout, os.Stderr)) }

func program(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		io.WriteString(stdout, usage)
		return 0
	case len(args) > 0:
		io.WriteString(stderr, usage)
		return 2
	}
	result, err := install(func(text string) { fmt.Fprintln(stderr, "install.sh: warning:", text) })
	if err != nil {
		fmt.Fprintln(stderr, "install.sh: error:", err)
		if text := hint.Of(err); text != "" {
			fmt.Fprintln(stderr, "install.sh: hint:", text)
		}
		return 1
	}
	what := "installed already"
	if result.Changed > 0 {
		what = fmt.Sprintf("installed, %d files changed", result.Changed)
	}
	fmt.Fprintf(stdout, "%s %s: %s\n", result.Name, result.Version, what)
	for _, unit := range result.Ready {
		fmt.Fprintf(stdout, "%s: ready\n", unit)
	}
	return 0
}

func install(warn func(string)) (installer.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return installer.Result{}, err
	}
	o := installer.Options{
		Package: filepath.Dir(self), Dest: strings.TrimRight(os.Getenv("DESTDIR"), "/"), Consume: os.Getenv("OVSA_CONSUME") != "",
		Digest: os.Getenv("OVSA_PACKAGE_SHA256"), Warn: warn,
	}
	if o.Dest == "" && os.Geteuid() != 0 {
		return installer.Result{}, fmt.Errorf("this needs root: sudo %s", filepath.Join(o.Package, "install.sh"))
	}
	syscall.Umask(0o022)
	return installer.Install(context.Background(), o)
}
