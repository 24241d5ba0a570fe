package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Nothing but an interrupt ends the reading of a manifest that is being typed.
func TestInterruptEndsReading(t *testing.T) {
	for _, args := range []string{"validate -", "validate - --json", "fmt -", "plan -"} {
		ctx, interrupt := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { interrupt(errors.New("interrupt signal received")) })
		env, stderr := testEnv(nil)
		in, typing := io.Pipe()
		env.Stdin, env.Args = in, strings.Fields(args)
		if got := Run(ctx, env); got != exitInterrupted {
			t.Errorf("ovsactl %s: exit %d, want %d\n%s", args, got, exitInterrupted, stderr)
		}
		typing.Close()
	}
}

func TestAdvice(t *testing.T) {
	denied := fmt.Errorf("vtpm lock: %w", &fs.PathError{Op: "mkdir", Path: "/var/OVSA/vtpm/locks", Err: fs.ErrPermission})
	for _, tt := range []struct {
		name string
		err  error
		uid  int
		want string
	}{
		{"a user", denied, 1000, "sudo"},
		{"root", denied, 0, ""},
		{"a better hint", hint.Wrap(denied, "do this"), 1000, "do this"},
		{"a full disk", fmt.Errorf("write journal: %w", syscall.ENOSPC), 0, "image prune"},
		{"something else", errors.New("boom"), 1000, ""},
	} {
		if got := adviceOn(tt.err, tt.uid); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	const host = "host \"local\" {\n  uri      = \"test:///default\"\n  data_dir = \"/nonexistent/ovsa\"\n}\n"
	inDir(t, map[string]string{
		"good.hcl": host + `role "runtime" {}`,
		"bad.hcl":  host + `role "runtime" { cpus = "many" }`,
	})
	interrupted, interrupt := context.WithCancelCause(t.Context())
	interrupt(errors.New("interrupt signal received"))
	tests := []struct {
		name string
		ctx  context.Context
		args string
		want int
	}{
		{"done", t.Context(), "plan good.hcl", exitOK},
		{"error", t.Context(), "plan good.hcl --target runtme", exitError},
		{"a verb that there is not", t.Context(), "pla good.hcl", exitError},
		{"changes", t.Context(), "plan good.hcl --detailed-exitcode", exitChanges},
		{"bad manifest", t.Context(), "plan bad.hcl --detailed-exitcode", exitManifest},
		{"bad manifest as JSON", t.Context(), "validate bad.hcl --json", exitManifest},
		{"no manifest", t.Context(), "plan", exitManifest},
		{"interrupted", interrupted, "plan good.hcl", exitInterrupted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, stderr := testEnv(nil)
			env.Args = strings.Fields(tt.args)
			if got := Run(tt.ctx, env); got != tt.want {
				t.Errorf("ovsactl %s: exit %d, want %d\n%s", tt.args, got, tt.want, stderr)
			}
		})
	}
}
