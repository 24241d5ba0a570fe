package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	refresh  = 100 * time.Millisecond
	barWidth = 20
	minWidth = 40
)

// live keeps a block of lines at the bottom of a terminal: one for each thing
// that is worked on.
type live struct {
	w     io.Writer
	width func() int
	now   func() time.Time

	mu     sync.Mutex
	groups []*group // in the order they began
	shown  int      // lines of the block on the screen
	closed bool
	stop   func()
}

// group is what one live line is about.
type group struct {
	name   string
	phases []*phase // running, in the order they began
}

type phase struct {
	name    string
	begin   time.Time
	copying copying
}

// NewTerminal is a view for a terminal that is width() columns wide. Failures
// and notes stay on the screen; the block of running things goes with Close.
func NewTerminal(w io.Writer, width func() int) View { return newTerminal(w, width, time.Now) }

func newTerminal(w io.Writer, width func() int, now func() time.Time) *live {
	l := &live{w: w, width: width, now: now}
	l.stop = every(refresh, l.tick)
	return l
}

func (l *live) Observe(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := l.now()
	name, phaseName := split(e.Step)
	switch e.Kind {
	case Note:
		l.print(fmt.Sprintf("%s: %s", name, Line(e.Text)))
		return
	case Skipped:
		return // the failure before it has been told
	}
	g := l.group(name)
	switch e.Kind {
	case Started:
		g.phases = append(g.phases, &phase{name: phaseName, begin: now})
	case Progress:
		if p := g.phase(phaseName); p != nil {
			p.copying.observe(e, now)
		}
	case Done, Failed:
		g.end(phaseName)
		if e.Kind == Failed {
			l.print(fmt.Sprintf("%s: failed after %s: %s", e.Step, Duration(e.Elapsed), Line(e.Text)))
		}
	}
}

func (l *live) group(name string) *group {
	for _, g := range l.groups {
		if g.name == name {
			return g
		}
	}
	g := &group{name: name}
	l.groups = append(l.groups, g)
	return g
}

func (g *group) phase(name string) *phase {
	for _, p := range g.phases {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (g *group) end(name string) {
	for i, p := range g.phases {
		if p.name == name {
			g.phases = append(g.phases[:i], g.phases[i+1:]...)
			return
		}
	}
}

// print writes a line that stays, above the block.
func (l *live) print(line string) {
	l.erase()
	fmt.Fprintln(l.w, line)
	l.draw()
}

func (l *live) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.erase()
	l.draw()
}

// erase removes the block and puts the cursor where it began.
func (l *live) erase() {
	if l.shown > 0 {
		fmt.Fprintf(l.w, "\x1b[%dA\r\x1b[J", l.shown)
	}
	l.shown = 0
}

func (l *live) draw() {
	width := max(l.width(), minWidth)
	longest := 0
	for _, g := range l.groups {
		longest = max(longest, len(g.name))
	}
	now := l.now()
	for _, g := range l.groups {
		if len(g.phases) == 0 {
			continue
		}
		fmt.Fprintln(l.w, clip(g.line(longest, now), width-1))
		l.shown++
	}
}

// line is what a group is doing just now.
func (g *group) line(longest int, now time.Time) string {
	var doing []string
	var detail string
	oldest := now
	for _, p := range g.phases {
		if p.name != "" {
			doing = append(doing, p.name)
		}
		if p.begin.Before(oldest) {
			oldest = p.begin
		}
		if last := p.copying.last; last.Stage != "" || last.Done > 0 {
			detail = last.Stage
			if b := p.copying.bar(now); b != "" {
				detail = strings.TrimSpace(detail + " " + b)
			}
		}
	}
	parts := []string{fmt.Sprintf("%-*s", longest, g.name), fmt.Sprintf("%6s", Duration(now.Sub(oldest)))}
	if len(doing) > 0 {
		parts = append(parts, strings.Join(doing, ", "))
	}
	if detail != "" {
		parts = append(parts, Line(detail))
	}
	return strings.Join(parts, "  ")
}

// bar draws how much of a copy is done.
func (c *copying) bar(now time.Time) string {
	if c.last.Total <= 0 {
		return c.amount(now)
	}
	filled := int(min(c.last.Done, c.last.Total) * barWidth / c.last.Total)
	return "[" + strings.Repeat("=", filled) + strings.Repeat(" ", barWidth-filled) + "] " + c.amount(now)
}

// clip keeps a line from wrapping, which would break the count of lines.
func clip(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

func (l *live) Close() {
	l.mu.Lock()
	if !l.closed {
		l.erase()
	}
	l.closed = true
	l.mu.Unlock()
	l.stop()
}
