package cli

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestImageProgressInAPipe(t *testing.T) {
	var out strings.Builder
	p := newImageProgress(Env{Stderr: &out, Getenv: func(string) string { return "" }}, "noble")
	p.begin, p.now = time.Unix(0, 0), func() time.Time { return time.Unix(3, 2e8) }
	for n := range int64(100) {
		p.report("download", n, 100)
	}
	p.report("verify: \x1b[31m", 1, 100)
	p.done(nil)
	const want = "image noble: download\nimage noble: verify\nimage noble: ready after 3.2s\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

func TestImageProgressOnATerminal(t *testing.T) {
	var out strings.Builder
	now := time.Unix(5, 0)
	p := &imageProgress{w: &out, name: "noble", tty: true, begin: time.Unix(0, 0), now: func() time.Time { return now }}
	p.report("download", 50<<20, 100<<20)
	p.report("download", 51<<20, 100<<20) // too soon to paint again
	p.report("install: \x1b[31mred", 0, 0)
	p.done(errors.New("told elsewhere"))
	const want = clearLine + "image noble: download  [============            ] 50% of 100 MiB  5s" +
		clearLine + "image noble: install:  [31mred  5s" + clearLine
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
