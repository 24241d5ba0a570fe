package cli

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary be ovsactl, too, where a script runs it: the
// scripts test this source and never an installed or stale program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ovsactl": func() {
			os.Exit(Run(context.Background(), Env{
				Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
			}))
		},
	})
}

// TestScripts runs test/scripts: the command line's behaviour as text, a file
// for each subject. OVSA_UPDATE=1 rewrites what they expect.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../test/scripts",
		UpdateScripts:       os.Getenv("OVSA_UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			examples, err := os.Getwd()
			env.Setenv("EXAMPLES", examples+"/../../../examples")
			return err
		},
	})
}
