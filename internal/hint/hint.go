// Package hint attaches to an error what its reader can do about it. The
// command line prints the hint on a line of its own after the error.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	text string
}

func (h hinted) Unwrap() error { return h.error }

// Wrap returns err with a hint: a full sentence or a command to run. A nil err
// stays nil. The error's text does not change.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost hint in err's chain, or "".
func Of(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.text
	}
	return ""
}
