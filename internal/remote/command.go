package remote

import (
	"errors"
	"fmt"
	"strings"
)

// maxCommand stays below what Linux takes as one argument of a program
// (128 KiB): the server hands the whole command to `sh -c`.
const maxCommand = 120 << 10

// commandLine is argv as a POSIX shell reads it back. SSH has no argument
// vectors: a server passes one string to the user's shell.
func commandLine(argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("no command")
	}
	var b strings.Builder
	for i, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return "", fmt.Errorf("argument %d has a NUL byte", i)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(arg, `'`, `'\''`))
		b.WriteByte('\'')
	}
	if b.Len() > maxCommand {
		return "", fmt.Errorf("command over %d bytes", maxCommand)
	}
	return b.String(), nil
}

// ExitError is a command that ran in the guest and did not succeed.
type ExitError struct {
	Command string // argv[0]
	Code    int    // exit status; 128 + 15 and the like for a signal
	Signal  string // "TERM"; "" for none
}

func (e *ExitError) Error() string {
	if e.Signal != "" {
		return fmt.Sprintf("%s: ended by signal %s", e.Command, e.Signal)
	}
	return fmt.Sprintf("%s: exit status %d", e.Command, e.Code)
}

// ExitCode is Code, for callers that do not import this package.
func (e *ExitError) ExitCode() int { return e.Code }
