package guestcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
)

// tool is a program with all that a table may have.
func tool() Program {
	run := func(_ context.Context, c *Call) error {
		_, err := fmt.Fprintln(c.Stdout, "ran", spell(c))
		return err
	}
	return Program{
		Name: "tool", Summary: "do things", Config: "/nowhere/tool.conf",
		Groups: []Group{{"key", "make keys"}},
		Commands: []Command{
			{Name: "key -make", NoJSON: "a test", Summary: "make a key", Flags: []Flag{
				{Name: "k", Arg: "STORE", Kind: File, Help: "where", Required: true},
				{Name: "type", Arg: "TYPE", Values: "rsa|ecdsa", Help: "which", Default: "ecdsa"},
				{Name: "trust", Arg: "DIR", Kind: Dir, Help: "whom", Setting: true, Default: "/trust"},
				{Name: "ocsp", Arg: "FILE...", Kind: File, Help: "answers", Min: 1, Max: Many},
			}, Example: "key -make -k store", Run: run},
			{Name: "key -list", NoJSON: "a test", Summary: "list keys", Run: run},
			{Name: "log", NoJSON: "a test", Summary: "print the log", Operands: "[FILE]", Kind: File, Max: 1, Run: run},
			{Name: "log check", NoJSON: "a test", Summary: "check the log", Flags: []Flag{{Name: "h", Arg: "MASK", Help: "a flag as help is spelled"}}, Run: run},
			{Name: "stop", NoJSON: "a test", Summary: "stop a thing", Operands: "KIND ID", Values: "host|guest", Min: 2, Max: 2, Run: run},
			{Name: "fail", NoJSON: "a test", Summary: "fail", Run: func(context.Context, *Call) error {
				return hint.Wrap(errors.New("boom"), "try again")
			}},
		},
		Later: []string{"serve"},
	}
}

func TestTheToolsTable(t *testing.T) {
	if err := tool().Check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(p *Program){
		"no summary":     func(p *Program) { p.Commands[1].Summary = "" },
		"twice":          func(p *Program) { p.Commands[1].Name = "key -make" },
		"group":          func(p *Program) { p.Groups = nil },
		"no names":       func(p *Program) { p.Commands[4].Operands = "KIND" },
		"its example":    func(p *Program) { p.Commands[0].Example = "key -make" },
		"-k has no help": func(p *Program) { p.Commands[0].Flags[0].Help = "" },
		"-x: its default": func(p *Program) {
			p.Commands[1].Flags = []Flag{{Name: "x", Arg: "N", Kind: Number, Default: "many", Help: "x"}}
		},
		"nothing to run": func(p *Program) { p.Commands[1].Run = nil },
		"secrets come from a terminal": func(p *Program) {
			p.Commands[1].Flags = []Flag{{Name: "x", Arg: "PASSWORD", Help: "x"}}
		},
		"want -json":      func(p *Program) { p.Commands[1].NoJSON = "" },
		"no file of them": func(p *Program) { p.Config = "" },
		"means something else": func(p *Program) {
			p.Commands[1].Flags = []Flag{{Name: "trust", Arg: "DIR", Help: "whom", Setting: true, Default: "/other"}}
		},
		"a setting has one word": func(p *Program) { p.Commands[0].Flags[3].Setting = true },
		"operands have no":       func(p *Program) { p.Commands[1].Max = 1 },
	} {
		p := tool()
		change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCommandLines(t *testing.T) {
	for _, tt := range []struct {
		line           string
		code           int
		stdout, stderr string // what they contain; "" for nothing at all
	}{
		{"key -make -k store", 0, "ran k=[[store]]", ""},
		{"log", 0, "ran ", ""},
		{"log file", 0, "ran file", ""},
		{"log check", 0, "ran ", ""},
		{"log check -h 3", 0, "ran h=[[3]]", ""},
		{"stop host x", 0, "ran host x", ""},
		{"log -- -help", 0, "ran -help", ""},

		{"help", 0, "tool key -make | -list", ""},
		{"help", 0, "lines NAME=VALUE of /nowhere/tool.conf\n($OVSA_CONFIG names another file); flags come first, then the environment:\n  OVSA_TRUST\n", ""},
		{"-help", 0, "Not in this version yet: serve", ""},
		{"--help", 0, "tool log [FILE]\n      print the log\n  tool log check [-h MASK]\n      check the log\n", ""},
		{"help key", 0, "tool key -list: list keys", ""},
		{"key -help", 0, "tool key -make: make a key", ""},
		{"help key -make", 0, "-trust DIR                   whom (default $OVSA_TRUST, or /trust)", ""},
		{"key -make -h", 0, "-k STORE                     where (required)", ""},
		{"log check --help", 0, "Usage:\n  tool log check [-h MASK]", ""},
		{"help log", 0, "tool log: print the log", ""},
		{"version", 0, "tool ", ""},
		{"--version", 0, "tool ", ""},

		{"", 2, "", "error: no command\ntool: hint: see tool help"},
		{"kye", 2, "", `hint: did you mean "key"? see tool help`},
		{"frobnicate", 2, "", "error: unknown command \"frobnicate\"\ntool: hint: see tool help"},
		{"help kye", 2, "", `did you mean "key"?`},
		{"help key -maek", 2, "", `did you mean "-make"? see tool help key`},
		{"key", 2, "", "error: key: no command\ntool: hint: see tool help key"},
		{"key make", 2, "", `error: key: unknown command "make"` + "\ntool: hint: did you mean \"-make\"?"},
		{"key -make", 2, "", "error: key -make: no -k STORE\ntool: hint: see tool key -make -help"},
		{"key -make -tpye rsa", 2, "", "hint: did you mean -type? see tool key -make -help"},
		{"stop host", 2, "", "error: stop: no ID"},
		{"stop host a b", 2, "", `unexpected argument "b"`},
		{"serve -n x", 2, "", "tool serve is not in this version yet"},
		{"fail", 1, "", "tool: error: fail: boom\ntool: hint: try again"},
		{"completion", 2, "", "want bash, zsh or fish"},
		{"man", 2, "", "want a directory"},
	} {
		var stdout, stderr bytes.Buffer
		code := tool().Run(t.Context(), Env{Args: strings.Fields(tt.line), Stdout: &stdout, Stderr: &stderr})
		if code != tt.code {
			t.Errorf("%q: exit %d, want %d", tt.line, code, tt.code)
		}
		expectText(t, tt.line+": stdout", stdout.String(), tt.stdout)
		expectText(t, tt.line+": stderr", stderr.String(), tt.stderr)
	}
}

func expectText(t *testing.T, what, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestComplete(t *testing.T) {
	for _, tt := range []struct{ line, want string }{ // the last word is being typed
		{"", "key log stop fail help completion version"},
		{"k", "key"},
		{"key ", "-make -list"},
		{"key -m", "-make"},
		{"key -make ", "-k -ocsp -trust -type"},
		{"key -make -t", "-trust -type"},
		{"key -make -k ", ":files"},
		{"key -make -k s", ":files"},
		{"key -make -k store -", "-ocsp -trust -type"},
		{"key -make -trust ", ":dirs"},
		{"key -make -type ", "rsa ecdsa"},
		{"key -make -type e", "ecdsa"},
		{"key -make -ocsp ", ":files"},
		{"key -make -ocsp a ", ":files"},
		{"key -make -ocsp a -", "-k -trust -type"},
		{"log ", "check"},
		{"log f", ":files"},
		{"log file ", ""},
		{"stop ", "host guest"},
		{"stop g", "guest"},
		{"help ", "key log stop fail"},
		{"help key ", "-make -list"},
		{"completion ", "bash fish zsh"},
		{"nothing ", ""},
	} {
		var out bytes.Buffer
		words := strings.Split(tt.line, " ")
		if code := tool().Run(t.Context(), Env{Args: append([]string{"__complete"}, words...), Stdout: &out}); code != 0 {
			t.Errorf("%q: exit %d", tt.line, code)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// TestMain makes this test binary be tool, too, where a shell runs it.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "tool" {
		code := tool().Main()
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); dumpable != 0 || err != nil {
			fmt.Println("core dumps have this process", err)
			code = 77
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// A program that may hold keys is in no core dump.
func TestNoCoreDumps(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "version")
	cmd.Args[0] = "tool"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestBash has bash complete command lines with the script.
func TestBash(t *testing.T) {
	need.Programs(t, "bash")
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(self, filepath.Join(dir, "tool")), os.Mkdir(filepath.Join(dir, "a dir"), 0o755), os.WriteFile(filepath.Join(dir, "a file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ line, want string }{
		{"tool k", "[key]"},
		{"tool key -make -t", "[-trust][-type]"},
		{"tool key -make -k a", "[a dir][a file]"},
		{"tool key -make -trust a", "[a dir]"},
		{"tool nothing x", ""},
	} {
		const ask = `source <(tool completion bash)
read -ra COMP_WORDS <<<"$1"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1
compopt() { :; } # it works while bash completes only
_tool && [ ${#COMPREPLY[@]} -eq 0 ] || printf '[%s]\n' "${COMPREPLY[@]}" | sort | tr -d '\n'`
		cmd := exec.Command("bash", "-c", ask, "bash", tt.line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.line, out, err, tt.want)
		}
	}
}

// TestManual: man(1) has nothing to complain about, and shows what there is.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if code := tool().Run(t.Context(), Env{Args: []string{"man", dir}}); code != 0 {
		t.Fatalf("exit %d", code)
	}
	page, err := os.ReadFile(filepath.Join(dir, "tool.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".TH TOOL 1", `tool \- do things`, ".SS key \\-make\nMake a key.\n", "\\fB\\-trust\\fR \\fIDIR\\fR\nWhom (default $OVSA_TRUST, or /trust).\n",
		".SH ENVIRONMENT", "\\fBOVSA_TRUST\\fR\nWhom, as \\-trust.\n", ".SH FILES\n.TP\n\\fB/nowhere/tool.conf\\fR",
		"    tool key \\-make \\-k store\n", ".TP\n130\ninterrupted\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}
