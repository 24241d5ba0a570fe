package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	barWidth     = 24
	barRefresh   = 100 * time.Millisecond
	clearLine    = "\r\x1b[K"
	maxStageName = 50
)

// imageProgress shows how an image comes to be: on a terminal one line that
// changes, with a bar where the total is known; in a pipe a line per stage.
type imageProgress struct {
	w    io.Writer
	name string
	tty  bool
	now  func() time.Time

	mu      sync.Mutex
	begin   time.Time
	stage   string
	painted time.Time
}

func newImageProgress(env Env, name string) *imageProgress {
	f, ok := env.Stderr.(*os.File)
	return &imageProgress{
		w: env.Stderr, name: name, now: time.Now, begin: time.Now(),
		tty: ok && term.IsTerminal(int(f.Fd())) && env.Getenv("TERM") != "dumb",
	}
}

// report is an image.Progress.
func (p *imageProgress) report(stage string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if !p.tty {
		// What a stage is doing just now is for people who watch.
		stage, _, _ = strings.Cut(stage, ":")
		if stage != p.stage {
			fmt.Fprintf(p.w, "image %s: %s\n", p.name, stage)
		}
		p.stage = stage
		return
	}
	if stage == p.stage && now.Sub(p.painted) < barRefresh {
		return
	}
	p.stage, p.painted = stage, now
	fmt.Fprintf(p.w, "%simage %s: %s%s  %s", clearLine, p.name, oneLine(stage), bar(done, total),
		now.Sub(p.begin).Truncate(time.Second))
}

// done ends the display. A failure is told by whoever gets the error.
func (p *imageProgress) done(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty {
		fmt.Fprint(p.w, clearLine)
	}
	if err == nil && p.stage != "" {
		fmt.Fprintf(p.w, "image %s: ready after %s\n", p.name, p.now().Sub(p.begin).Round(100*time.Millisecond))
	}
}

// bar draws what is done of total, which may be unknown.
func bar(done, total int64) string {
	switch {
	case done <= 0:
		return ""
	case total <= 0:
		return "  " + megabytes(done)
	}
	done = min(done, total)
	filled := int(done * barWidth / total)
	return fmt.Sprintf("  [%s%s] %d%% of %s", strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled),
		done*100/total, megabytes(total))
}

// oneLine fits a stage's name, which may hold a program's output, in its line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxStageName {
		s = string(r[:maxStageName-1]) + "…"
	}
	return s
}
