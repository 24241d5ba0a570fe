// Package ui shows long work while it runs: on a terminal as one line per
// thing that is worked on, which change in place; elsewhere as plain lines. It
// knows nothing of what the work is, only the addresses of its steps.
package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/visible"
)

// Kind says what an event tells of its step.
type Kind int

const (
	Started  Kind = iota
	Progress      // what it is doing, or how many bytes are done
	Done
	Failed
	Skipped // it will not run, because of another step
	Note    // something to know that is not about success
)

// Event is something that happened to a step.
type Event struct {
	Kind    Kind
	Step    string // "role.runtime/disk", "image.debian"
	Elapsed time.Duration
	Stage   string // of Progress: what is going on
	Done    int64  // of Progress: bytes
	Total   int64  // 0 when it is not known
	Text    string // the error, the reason, the note: may hold anything
}

// View shows events. Observe may be called from many goroutines and does not
// block for longer than a write takes. After Close nothing is shown.
type View interface {
	Observe(Event)
	Close()
}

// Duration gives d as people read it: "0.4s", "12.3s", "2m05s".
func Duration(d time.Duration) string {
	switch {
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// Bytes gives n in binary units.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/1024, 0
	for ; value >= 1023.95 && i < len(units)-1; i++ {
		value /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}

// Line makes text that may come from a guest or a program one harmless line:
// control characters are shown as pictures and cannot move the cursor.
func Line(text string) string {
	return visible.Text(strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\n", " | "))
}

// split parts an address: what is worked on, and the phase, "" when there is none.
func split(step string) (group, phase string) {
	group, phase, _ = strings.Cut(step, "/")
	return group, phase
}

// copying is the progress of one step: its last event, and since when it has
// been in that stage.
type copying struct {
	last  Event
	since time.Time
}

// observe takes an event, and tells whether a stage begins with it. What a stage
// does just now, after a colon, is part of the same one.
func (c *copying) observe(e Event, now time.Time) (begins bool) {
	begins = c.since.IsZero() || stageOf(e) != stageOf(c.last)
	if begins {
		c.since = now
	}
	c.last = e
	return begins
}

func stageOf(e Event) string {
	stage, _, _ := strings.Cut(e.Stage, ":")
	return stage
}

// steadyAfter is how long a copy goes on before its rate means something.
const steadyAfter = time.Second

// amount tells how much of a copy is done, and how fast.
func (c *copying) amount(now time.Time) string {
	var text string
	switch {
	case c.last.Done <= 0 && c.last.Total <= 0:
		return ""
	case c.last.Total <= 0:
		text = Bytes(c.last.Done)
	default:
		text = fmt.Sprintf("%d%% of %s", min(c.last.Done, c.last.Total)*100/c.last.Total, Bytes(c.last.Total))
	}
	if took := now.Sub(c.since); took >= steadyAfter && c.last.Done > 0 {
		text += ", " + Bytes(int64(float64(c.last.Done)/took.Seconds())) + "/s"
	}
	return text
}
