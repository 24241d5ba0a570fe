package ovsatool

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/visible"
)

const (
	repaint   = 200 * time.Millisecond
	clearLine = "\r\x1b[K"
)

// progress shows on a terminal how much of total bytes is done of what becomes a
// file; elsewhere nothing. add is told how much of a file is done, of one file
// after another. end clears it, and may be called again.
func (s session) progress(name string, total int64) (add func(file int, bytes int64), end func()) {
	f, ok := s.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || s.Getenv("TERM") == "dumb" {
		return nil, func() {}
	}
	var painted time.Time
	return counted(total, func(done int64) {
		if time.Since(painted) < repaint {
			return
		}
		painted = time.Now()
		fmt.Fprintf(f, "%s%s: %d %% of %s", clearLine, visible.Line(name), 100*done/max(total, 1), inBytes(total))
	}), func() { fmt.Fprint(f, clearLine) }
}

// counted makes one count of those of the files.
func counted(total int64, tell func(done int64)) func(file int, bytes int64) {
	var before, last int64
	file := 0
	return func(f int, bytes int64) {
		if f != file {
			file, before = f, before+last
		}
		last = bytes
		tell(min(before+bytes, total))
	}
}

// inBytes is a size in binary units.
func inBytes(n int64) string {
	v, unit := float64(n), 0
	for ; v >= 1024 && unit < 6; unit++ {
		v /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[unit-1])
}
