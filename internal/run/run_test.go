package run

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

func TestArgumentsAreNeverAShellString(t *testing.T) {
	out, err := Cmd{Path: "echo", Args: []string{"$(id); `id`", "a  b"}}.Output(t.Context())
	if err != nil || string(out) != "$(id); `id` a  b\n" {
		t.Fatalf("got %q, %v", out, err)
	}
}

func TestFailureHasCodeAndCleanStderr(t *testing.T) {
	err := Cmd{Path: "sh", Args: []string{"-c", `printf 'no \033[31mluck' >&2; exit 7`}}.Run(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != 7 || e.Stderr != "no \uFFFD[31mluck" {
		t.Fatalf("error %#v", err)
	}
}

func TestMissingProgramHasAHint(t *testing.T) {
	err := Cmd{Path: "no-such-program"}.Run(t.Context())
	if !strings.Contains(hint.Of(err), "no-such-program") {
		t.Fatalf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestContextEndsTheProgram(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Cmd{Path: "sleep", Args: []string{"60"}}.Run(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want the deadline", err)
	}
}

func TestSecretsOfTheEnvironmentAreNotPassedOn(t *testing.T) {
	t.Setenv("OVSA_SECRET", "hunter2")
	out, err := Cmd{Path: "env"}.Output(t.Context())
	if err != nil || strings.Contains(string(out), "hunter2") {
		t.Fatalf("got %q, %v", out, err)
	}
}
