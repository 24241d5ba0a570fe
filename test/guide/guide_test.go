package guide_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/test/guide"
)

func page(t *testing.T) []guide.Block {
	t.Helper()
	f, err := os.Open("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks, err := guide.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// TestPage: all that the page has its reader type can be run.
func TestPage(t *testing.T) {
	blocks := page(t)
	if got, want := fmt.Sprint(guide.Places(blocks)), "[build host isv_dev runtime]"; got != want {
		t.Errorf("places %s, want %s", got, want)
	}
	for _, b := range blocks {
		c := run.Cmd{Path: "bash", Args: []string{"-n"}, Stdin: strings.NewReader(b.Commands)}
		if err := c.Run(t.Context()); err != nil || strings.TrimSpace(b.Commands) == "" {
			t.Errorf("line %d: %v", b.Line, err)
		}
	}
}

func TestParse(t *testing.T) {
	const fence = "```"
	for _, tt := range []struct {
		name, page string
		want       string // of the blocks, or of the error after "error: "
	}{
		{"places", "# A\n" + fence + "sh host\na\nb\n" + fence + "\n## B c\n" + fence + "sh isv_dev shown\nd\n" + fence + "\n",
			`[{A host "a\nb\n" 3 false false false} {B c isv_dev "d\n" 8 true false false}]`},
		{"words", fence + "sh build refused later\na\n" + fence + "\n", `[{ build "a\n" 2 false true true}]`},
		{"outputs and files", fence + "text\n# a\n" + fence + "\n" + fence + "\nb\n" + fence + "\n", "[]"},
		{"a comment is no headline", "# A\n" + fence + "sh host\n# b\n" + fence + "\n" + fence + "sh host\nc\n" + fence + "\n",
			`[{A host "# b\n" 3 false false false} {A host "c\n" 6 false false false}]`},
		{"nowhere", fence + "sh\na\n" + fence + "\n", "error: line 1: commands that say no place"},
		{"a word that is none", fence + "sh host often\na\n" + fence + "\n", `error: line 1: "often" means nothing`},
		{"no end", fence + "sh host\na\n", "error: the last block does not end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			blocks, err := guide.Parse(strings.NewReader(tt.page))
			var all []string
			for _, b := range blocks {
				all = append(all, fmt.Sprintf("{%s %s %q %d %v %v %v}", b.Step, b.Place, b.Commands, b.Line, b.Shown, b.Refused, b.Later))
			}
			got := fmt.Sprint(all)
			if err != nil {
				got = "error: " + err.Error()
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// here runs blocks in shells of this machine, whatever their place.
func here(t *testing.T, blocks ...guide.Block) (report, log string, err error) {
	t.Helper()
	var reported, logged bytes.Buffer
	err = guide.Run(t.Context(), blocks, guide.Options{
		Shell: func(context.Context, string) ([]string, error) { return []string{"bash", "--noprofile", "--norc"}, nil },
		Log:   &logged, Report: &reported,
	})
	return reported.String(), logged.String(), err
}

func TestShellsLast(t *testing.T) {
	report, log, err := here(t,
		guide.Block{Step: "one", Place: "a", Commands: "cd /\nx=1\n"},
		guide.Block{Step: "one", Place: "b", Commands: "echo \"b has ${x-nothing}\"\n", Shown: true},
		guide.Block{Step: "one", Place: "a", Commands: "cat\necho \"a has $x in $PWD\" >&2\n", Shown: true},
		guide.Block{Step: "two", Place: "a", Commands: "echo not shown\n"},
		guide.Block{Step: "three", Place: "a", Commands: "exit 7\n", Later: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(report, "\n")
	for i, want := range []string{"one", "    b has nothing", "    a has 1 in /", "two", "three"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d of the report is not %q:\n%s", i+1, want, report)
		}
	}
	if strings.Count(log, "a has 1 in /\n") != 1 || strings.Contains(log, "== ") {
		t.Errorf("log:\n%s", log)
	}
	if !strings.Contains(lines[4], "not yet") || strings.Contains(report, "not shown") || !strings.Contains(log, "not shown") {
		t.Errorf("report:\n%s\nlog:\n%s", report, log)
	}
}

func TestWhatFailsEndsIt(t *testing.T) {
	for name, commands := range map[string]string{
		"the last":          "false\n",
		"one before":        "false\ntrue\n",
		"in a pipe":         "false | cat\n",
		"an unset variable": "echo $nothing\n",
		"an end":            "exit 0\n",
		"no commands":       "fi\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, log, err := here(t,
				guide.Block{Step: "one", Place: "a", Line: 12, Commands: "echo before\n" + commands},
				guide.Block{Step: "two", Place: "b", Commands: "echo after\n"},
			)
			var failed *guide.Failed
			if !errors.As(err, &failed) || failed.Line != 12 || strings.Contains(log, "after") {
				t.Errorf("got %v\n%s", err, log)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, commands string
		ok             bool
	}{
		{"it is", "true\nfalse\n", true},
		{"in two lines", "test 1 \\\n  = 2\n", true},
		{"it is not", "true\n", false},
		{"one before fails", "false\nfalse\n", false},
		{"there is no such program", "true\nno-such-program\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, log, err := here(t, guide.Block{Place: "a", Commands: tt.commands, Refused: true}); (err == nil) != tt.ok {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}

// TestInterrupted: also where something that a block has started goes on.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan struct{})
	shell := func(context.Context, string) ([]string, error) {
		close(began)
		return []string{"bash", "--noprofile", "--norc"}, nil
	}
	go func() { <-began; cancel() }()
	err := guide.Run(ctx, []guide.Block{{Place: "a", Commands: "sleep 5 & sleep 5\n"}}, guide.Options{Shell: shell, Log: io.Discard, Report: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestEnvironment: a proxy or an index of packages is the reader's, and goes on to the page.
func TestEnvironment(t *testing.T) {
	t.Setenv("PIP_INDEX_URL", "https://pypi.example.org")
	t.Setenv("MAKEFLAGS", "j")
	env := strings.Join(guide.Small("/x/bin/ovsactl"), "\n") + "\n"
	for want, is := range map[string]bool{
		"PIP_INDEX_URL=https://pypi.example.org\n": true, "MAKEFLAGS": false, "PATH=/x/bin:": true, "OVSA_VAR_cpus=2\n": true,
	} {
		if strings.Contains(env, want) != is {
			t.Errorf("%q: want %v", want, is)
		}
	}
}

// TestPlacesThatAreGone: the page's last step removes its guests, and their shells with them.
func TestPlacesThatAreGone(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, log, err := here(t,
		guide.Block{Place: "a", Commands: "echo $BASHPID >" + pid + "\n"},
		guide.Block{Place: "b", Commands: "kill -9 $(cat " + pid + ")\n"},
	)
	if err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}
