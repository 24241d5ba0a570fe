package ovsatool

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

var example = verb{
	name: "example", operand: "FILE", max: 1,
	flags: []flag{
		{name: "k", args: "STORE", required: true},
		{name: "l", args: "N"},
		{name: "i", args: "FILE...", min: 1, max: greedy},
		{name: "u", args: "URL CERT [FUTURE]", min: 2, max: 3, repeat: true},
		{name: "s"},
		{name: "trust", args: "DIR"},
	},
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"-k ks", "k=[[ks]]"},
		{"--k ks", "k=[[ks]]"},
		{"-kks -l30", "k=[[ks]] l=[[30]]"},
		{"-k=ks --l=30 -trust=d", "k=[[ks]] l=[[30]] trust=[[d]]"},
		{"-k ks -i a b c -l 1", "i=[[a b c]] k=[[ks]] l=[[1]]"},
		{"-i a -k ks", "i=[[a]] k=[[ks]]"},
		{"-u h:1 c -u h:2 c f -k ks", "k=[[ks]] u=[[h:1 c] [h:2 c f]]"},
		{"-u h:1 c f file -k ks", "k=[[ks]] u=[[h:1 c f]] file"},
		{"-k ks -s file", "k=[[ks]] s=[[]] file"},
		{"-k -1", "k=[[-1]]"}, // no flag is spelled so
		{"-k - -s", "k=[[-]] s=[[]]"},
		{"-trust d -k ks", "k=[[ks]] trust=[[d]]"}, // not -t glued to rust

		{"", "no -k STORE"},
		{"-k", "-k needs STORE"},
		{"-k -l 3", "-k needs STORE"},
		{"-k ks -u h:1", "-u needs URL CERT [FUTURE]"},
		{"-k ks -u h:1 -s", "-u needs URL CERT [FUTURE]"},
		{"-k ks -i", "-i needs FILE..."},
		{"-k a -k b", "-k is given twice"},
		{"-k ks -x", `unknown flag "-x"`},
		{"-k ks --lx", `unknown flag "--lx"`},
		{"-k ks -sx", `unknown flag "-sx"`},
		{"-k ks -s=1", `unknown flag "-s=1"`},
		{"-k ks -trust=", `unknown flag "-trust="`},
		{"-k ks a b", `unexpected argument "b"`},
	} {
		c, err := example.parse(strings.Fields(tt.line))
		got := fmt.Sprint(err)
		if err == nil {
			got = spell(c)
		}
		if got != tt.want && got != "example: "+tt.want {
			t.Errorf("%q: %s, want %s", tt.line, got, tt.want)
		}
	}
}

func spell(c call) string {
	var words []string
	for name, values := range c.values {
		words = append(words, fmt.Sprintf("%s=%v", name, values))
	}
	slices.Sort(words)
	return strings.Join(append(words, c.operands...), " ")
}

// TestTable: each verb has what its help needs, and each example parses.
func TestTable(t *testing.T) {
	for _, g := range groups() {
		for _, v := range g.verbs {
			var help bytes.Buffer
			if err := v.writeHelp(&help); err != nil || v.summary == "" || v.run == nil {
				t.Errorf("%s: %v, or no summary, or nothing to run", v.name, err)
			}
			seen := map[string]bool{}
			for _, f := range v.flags {
				if f.help == "" || seen[f.name] || !strings.Contains(help.String(), "  -"+f.name) {
					t.Errorf("%s -%s: no help, or twice", v.name, f.name)
				}
				seen[f.name] = true
			}
			if v.example == "" {
				continue
			}
			words, ok := strings.CutPrefix(v.example, v.name+" ")
			if _, err := v.parse(strings.Fields(quoted(words))); !ok || err != nil {
				t.Errorf("%s: its example: %v", v.name, err)
			}
		}
	}
}

// quoted makes each word in quotes one word.
func quoted(s string) string {
	parts := strings.Split(s, `"`)
	for i := 1; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(parts[i], " ", "_")
	}
	return strings.Join(parts, "")
}

// TestExitCodes: every failure has one that is not 0, an unknown verb included,
// which the original let pass.
func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		line   string
		code   int
		stderr string
	}{
		{"help", 0, ""},
		{"version", 0, ""},
		{"-help", 0, ""},
		{"keygen -help", 0, ""},
		{"keygen -storekey -h", 0, ""},
		{"sale -help", 0, ""},
		{"", 2, "no command"},
		{"keygne", 2, `unknown command "keygne"`},
		{"keygen", 2, "keygen: no command"},
		{"keygen -storekeys", 2, `unknown command "-storekeys"`},
		{"trust", 2, "trust: no command"},
		{"sale", 2, "no -m MASTERLIC"},
		{"sale -q", 2, "hint: see ovsatool sale -help"},
		{"licgen -u h:1 server.crt", 2, "no -t TYPE"}, // the original wrote nothing and said all was well
		{"licgen -t Sale -n x -v 1 -k nowhere -o out -u h:1 nowhere.crt", 1, "no such file"},
		{"inspect /nowhere", 1, "no such file"},
		{"inspect /", 1, "not a file"},
		{"trust rm 12", 1, "at least 8 digits"},
	} {
		var stdout, stderr bytes.Buffer
		code := Program(Machine()).Run(t.Context(), guestcli.Env{Args: strings.Fields(tt.line), Stdout: &stdout, Stderr: &stderr})
		if code != tt.code || !strings.Contains(stderr.String(), tt.stderr) || (code == 0) != (stdout.Len() > 0) {
			t.Errorf("%q: exit %d, want %d with %q\n%s%s", tt.line, code, tt.code, tt.stderr, &stdout, &stderr)
		}
	}
}

// FuzzParse: whatever the words, every one of them is accounted for.
func FuzzParse(f *testing.F) {
	f.Add("-k ks -i a b -u h:1 c -l30 -s file")
	f.Add("-kks --l=3 - -- -trust=x")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		c, err := example.parse(args)
		if err != nil {
			return
		}
		text := strings.Join(args, " ")
		for name, values := range c.values {
			for _, words := range values {
				for _, w := range words {
					if !strings.Contains(text, w) {
						t.Fatalf("-%s has %q, which is not in %q", name, w, text)
					}
				}
			}
		}
		if !c.has("k") || len(c.operands) > 1 {
			t.Fatalf("%q passes", text)
		}
	})
}
