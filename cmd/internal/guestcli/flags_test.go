package guestcli

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var example = Command{
	Name: "example", Operands: "FILE", Max: 1,
	Flags: []Flag{
		{Name: "k", Arg: "STORE", Required: true},
		{Name: "l", Arg: "N"},
		{Name: "i", Arg: "FILE...", Min: 1, Max: Many},
		{Name: "u", Arg: "URL CERT [FUTURE]", Min: 2, Max: 3, Repeat: true},
		{Name: "s"},
		{Name: "trust", Arg: "DIR", Setting: true, Default: "/trust"},
		{Name: "n", Arg: "N", Kind: Number},
		{Name: "for", Arg: "DURATION", Kind: Duration, Default: "10m"},
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

		{"-k ks -- -s", "k=[[ks]] -s"},
		{"-k ks -s -- -l", "k=[[ks]] s=[[]] -l"},
		{"-k ks -n -5", "k=[[ks]] n=[[-5]]"},

		{"", "no -k STORE"},
		{"-k -- file", "-k needs STORE"},
		{"-k ks -n five", `-n "five": want a number`},
		{"-k ks -for 5", `-for "5": want a duration, as in 90s or 1h30m`},
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
		c, err := example.parse(Env{}, settings{}, strings.Fields(tt.line))
		got := fmt.Sprint(err)
		if err == nil {
			got = spell(c)
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.line, got, tt.want)
		}
	}
}

func spell(c *Call) string {
	var words []string
	for name, values := range c.values {
		words = append(words, fmt.Sprintf("%s=%v", name, values))
	}
	slices.Sort(words)
	return strings.Join(append(words, c.Operands...), " ")
}

// TestWhereValuesComeFrom: the command line, else the environment, else the file of
// settings, else a default.
func TestWhereValuesComeFrom(t *testing.T) {
	for _, tt := range []struct{ line, env, file, want string }{
		{"-k ks -trust mine", "theirs", "filed", "mine"},
		{"-k ks", "theirs", "filed", "theirs"},
		{"-k ks", "", "filed", "filed"},
		{"-k ks", "", "", "/trust"},
	} {
		file := settings{"/conf", map[string]string{"OVSA_TRUST": tt.file, "OVSA_L": "1"}}
		c, err := example.parse(env("OVSA_TRUST", tt.env, "OVSA_L", "1", "OVSA_S", "true"), file, strings.Fields(tt.line))
		if err != nil || c.Text("trust") != tt.want || c.Text("l") != "" || c.Has("s") || c.Duration("for") != 10*time.Minute {
			t.Errorf("%q with %q and %q: %q, want %q (%v)", tt.line, tt.env, tt.file, c.Text("trust"), tt.want, err)
		}
	}
}

// env is an environment of names and values.
func env(words ...string) Env {
	return Env{Getenv: func(name string) string {
		for i := 0; i < len(words); i += 2 {
			if words[i] == name {
				return words[i+1]
			}
		}
		return ""
	}}
}

// FuzzParse: whatever the words, every one of them is accounted for.
func FuzzParse(f *testing.F) {
	f.Add("-k ks -i a b -u h:1 c -l30 -s file")
	f.Add("-kks --l=3 - -- -trust=x")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		c, err := example.parse(Env{}, settings{}, args)
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
		if !c.Has("k") || len(c.Operands) > 1 {
			t.Fatalf("%q passes", text)
		}
	})
}
