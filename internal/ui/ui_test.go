package ui

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 449 * time.Millisecond: "0.4s", 12340 * time.Millisecond: "12.3s",
		59990 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s", 3*time.Hour + 5*time.Minute: "3h05m",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// clock is a time that the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(0, 0)}
	v := newPlain(&out, c.now)
	v.stop() // the test ticks
	v.Observe(Event{Kind: Started, Step: "image.debian"})
	v.Observe(Event{Kind: Progress, Step: "image.debian", Stage: "fetch", Done: 1, Total: 4 << 20})
	v.Observe(Event{Kind: Progress, Step: "image.debian", Stage: "fetch: a detail", Done: 1 << 20, Total: 4 << 20})
	v.Observe(Event{Kind: Started, Step: "role.a/reachable"})
	v.Observe(Event{Kind: Started, Step: "role.a/disk"})
	v.Observe(Event{Kind: Done, Step: "role.a/disk", Elapsed: time.Second})
	for _, d := range []time.Duration{2 * time.Second, 27 * time.Second, time.Second} {
		c.t = c.t.Add(d)
		v.tick()
	}
	v.Observe(Event{Kind: Done, Step: "image.debian", Elapsed: 30 * time.Second})
	v.Observe(Event{Kind: Failed, Step: "role.a/components", Elapsed: time.Second, Text: "exit 1\n\x1b[31mred\x07"})
	v.Close()
	v.Observe(Event{Kind: Note, Step: "late", Text: "not shown"})
	want := `image.debian: fetch
role.a/disk: done after 1.0s
role.a/reachable: started
image.debian: still running, 30.0s, 25% of 4.0 MiB, 34.1 KiB/s
role.a/reachable: still running, 30.0s
image.debian: done after 30.0s
`
	got := out.String()
	if !strings.HasPrefix(got, want) || strings.Contains(got, "late") {
		t.Errorf("got:\n%s", got)
	}
	if strings.ContainsAny(got, "\x1b\x07") {
		t.Errorf("control characters reached the output: %q", got)
	}
}

func TestTerminalKeepsFailuresAndClearsTheRest(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(0, 0)}
	v := newTerminal(&out, func() int { return 50 }, c.now)
	v.stop()
	v.Observe(Event{Kind: Started, Step: "role.runtime/disk"})
	v.Observe(Event{Kind: Started, Step: "role.runtime/vtpm"})
	v.Observe(Event{Kind: Started, Step: "image.debian"})
	v.Observe(Event{Kind: Progress, Step: "image.debian", Stage: strings.Repeat("long ", 30), Done: 1, Total: 2})
	c.t = c.t.Add(1500 * time.Millisecond)
	v.tick()
	screen := out.String()
	if !strings.Contains(screen, "role.runtime    1.5s  disk, vtpm\n") {
		t.Errorf("screen %q", screen)
	}
	for line := range strings.Lines(screen) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n >= 50 {
			t.Errorf("a line of %d columns wraps: %q", n, line)
		}
	}
	out.Reset()
	v.Observe(Event{Kind: Failed, Step: "role.runtime/disk", Elapsed: 2 * time.Second, Text: "no space"})
	if !regexp.MustCompile(`^\x1b\[2A\r\x1b\[Jrole.runtime/disk: failed after 2.0s: no space\n`).MatchString(out.String()) {
		t.Errorf("failure is not above the block: %q", out.String())
	}
	out.Reset()
	v.Close()
	if out.String() != "\x1b[2A\r\x1b[J" {
		t.Errorf("close writes %q", out.String())
	}
}
