package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/remote/remotetest"
	"github.com/ovsactl/ovsactl/vm"
)

// fixedHost is a libvirt with these domains, which never change.
type fixedHost struct {
	hypervisor // panics where a test needs more
	states     []vm.State
	tails      [][]string // one for each SerialTail; the last one stays
}

func (h *fixedHost) Domains(context.Context) ([]vm.State, error) { return h.states, nil }

func (h *fixedHost) Inspect(_ context.Context, name string) (vm.State, error) {
	for _, s := range h.states {
		if s.Name == name {
			return s, nil
		}
	}
	return vm.State{Name: name}, nil
}

func (h *fixedHost) SerialTail(ctx context.Context, _ string, _ int) ([]string, error) {
	tail := h.tails[0]
	if len(h.tails) > 1 {
		h.tails = h.tails[1:]
	}
	return tail, ctx.Err()
}

// sshGuests are the roles a and b, which both are the one real sshd, and some
// that cannot be reached.
func sshGuests(t *testing.T) *guests {
	t.Helper()
	dir := t.TempDir()
	client, err := remote.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := remotetest.New(t, client.AuthorizedKey()).Start(t)
	guest := func(role string, active bool, keys []string) vm.State {
		return vm.State{Name: "ovsa_" + role, Exists: true, Ours: true, Active: active, Metadata: vm.Metadata{
			Role: role, Address: s.Addr.Addr(), User: s.User, HostKeys: keys,
		}}
	}
	return &guests{sshDir: dir, port: s.Addr.Port(), hypervisor: &fixedHost{states: []vm.State{
		guest("b", true, s.HostKeys), guest("a", true, s.HostKeys), guest("off", false, s.HostKeys), guest("young", true, nil),
		{Name: "ovsa_foreign", Exists: true, Active: true},
	}}}
}

func guestsEnv(stdin string) (env Env, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return Env{Stdin: strings.NewReader(stdin), Stdout: stdout, Stderr: stderr, Getenv: func(string) string { return "" }}, stdout, stderr
}

func TestConnectSaysWhyNot(t *testing.T) {
	g := sshGuests(t)
	how := login{timeout: 10 * time.Second}
	for role, want := range map[string][2]string{
		"c":       {"has no guest", "the roles with guests here: a, b, off, young"},
		"off":     {"does not run", "ovsactl apply"},
		"young":   {"not known", "ovsactl console young"},
		"foreign": {"not managed by ovsactl", ""},
	} {
		_, err := g.connect(t.Context(), role, how)
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.Contains(hint.Of(err), want[1]) {
			t.Errorf("%s: %v, hint %q", role, err, hint.Of(err))
		}
	}
	conn, err := g.connect(t.Context(), "a", how)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	env, stdout, _ := guestsEnv("echo from standard input; exit 5")
	if err := passExit(runSSH(t.Context(), env, conn, nil, false)); !errors.Is(err, exitStatus(5)) || stdout.String() != "from standard input\n" {
		t.Errorf("%v, %q", err, stdout)
	}
	env, stdout, _ = guestsEnv("piped")
	if err := passExit(runSSH(t.Context(), env, conn, []string{"cat"}, false)); err != nil || stdout.String() != "piped" {
		t.Errorf("%v, %q", err, stdout)
	}
}

func TestExec(t *testing.T) {
	g := sshGuests(t)
	both := []string{"b", "a", "b"}
	tests := []struct {
		name   string
		all    bool
		roles  []string
		argv   []string
		err    error
		stdout []string // in any order
		stderr string
	}{
		{"one role", false, []string{"a"}, []string{"echo", "x  y"}, nil, []string{"x  y"}, ""},
		{"one role fails", false, []string{"a"}, []string{"sh", "-c", "exit 7"}, exitStatus(7), nil, ""},
		{"two roles", false, both, []string{"printf", `1\n2`}, nil, []string{"a | 1", "a | 2", "b | 1", "b | 2"}, ""},
		{"two roles fail", false, both, []string{"sh", "-c", "exit 7"}, exitStatus(1), nil, "b | sh: exit status 7"},
		{"one cannot be reached", false, []string{"a", "off"}, []string{"echo", "x"}, exitStatus(1), []string{"a   | x"}, "off | "},
		{"all", true, nil, []string{"echo", "x"}, exitStatus(1), []string{"a     | x", "b     | x"}, "young | "},
	}
	for _, tt := range tests {
		env, stdout, stderr := guestsEnv("")
		opts := execOptions{all: tt.all, parallelism: 2, how: login{timeout: 10 * time.Second}}
		if err := execGuests(t.Context(), env, g, opts, tt.roles, tt.argv); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
		for _, line := range tt.stdout {
			if !strings.Contains(stdout.String(), line+"\n") {
				t.Errorf("%s: no %q in %q", tt.name, line, stdout)
			}
		}
		if got := strings.Count(stdout.String(), "\n"); got != len(tt.stdout) {
			t.Errorf("%s: %d lines: %q", tt.name, got, stdout)
		}
		if !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%s: stderr %q", tt.name, stderr)
		}
	}
}

func TestCpArguments(t *testing.T) {
	tests := []struct {
		args string
		want copyArgs
		err  string
	}{
		{"x a:y", copyArgs{"a", true, []string{"x"}, "y"}, ""},
		{"x a:", copyArgs{"a", true, []string{"x"}, ""}, ""},
		{"x y a:dir", copyArgs{"a", true, []string{"x", "y"}, "dir/"}, ""},
		{"x y a:", copyArgs{"a", true, []string{"x", "y"}, "./"}, ""},
		{"a:/x y", copyArgs{"a", false, []string{"/x"}, "y"}, ""},
		{"a:x a:y .", copyArgs{"a", false, []string{"x", "y"}, "."}, ""},
		{"./b:x a:y", copyArgs{"a", true, []string{"./b:x"}, "y"}, ""},
		{"x y", copyArgs{}, "is in a guest"},
		{"a:x a:y", copyArgs{}, "both sides"},
		{"a:x b:y", copyArgs{}, "two guests"},
		{"a:x b:y .", copyArgs{}, "two guests"},
		{"a:x y .", copyArgs{}, "is in a guest"},
		{"a:x a:y nodirectory", copyArgs{}, "not a directory"},
	}
	for _, tt := range tests {
		got, err := parseCopy(strings.Fields(tt.args))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || hint.Of(err) == "" {
				t.Errorf("%s: %v", tt.args, err)
			}
			continue
		}
		if err != nil || got.role != tt.want.role || got.up != tt.want.up || got.target != tt.want.target || strings.Join(got.sources, " ") != strings.Join(tt.want.sources, " ") {
			t.Errorf("%s: %+v, %v", tt.args, got, err)
		}
	}
}

func TestLogsFollow(t *testing.T) {
	h := &fixedHost{
		states: []vm.State{{Name: "ovsa_a", Exists: true, Ours: true, Metadata: vm.Metadata{Role: "a"}}},
		tails:  [][]string{{"one", "tw"}, {"one", "two", "\x1b[31mthree", "fo"}, {"one", "two", "\x1b[31mthree", "four", ""}},
	}
	g := &guests{hypervisor: h}
	ctx, cancel := context.WithTimeout(t.Context(), 4*followEvery)
	defer cancel()
	var out bytes.Buffer
	if err := serialLog(ctx, &out, g, "a", logsOptions{follow: true, lines: 10}); !errors.Is(err, exitStatus(exitInterrupted)) {
		t.Error(err)
	}
	if out.String() != "one\ntwo\n␛[31mthree\nfour\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestFreshLines(t *testing.T) {
	for _, tt := range []struct{ shown, next, want string }{
		{"", "a b", "a b"}, {"a b", "a b", ""}, {"a b", "a b c", "c"}, {"a b", "b c", "b c"}, {"a a", "a a a", ""}, {"a b", "x", "x"}, {"a b", "", ""},
	} {
		if got := strings.Join(freshLines(strings.Fields(tt.shown), strings.Fields(tt.next)), " "); got != tt.want {
			t.Errorf("%q then %q: got %q, want %q", tt.shown, tt.next, got, tt.want)
		}
	}
}

func TestLineWriterCutsEndlessLines(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{mu: &sync.Mutex{}, w: &out, layout: behind("a | ")}
	if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 3*maxLine)+"\nend")); err != nil {
		t.Fatal(err)
	}
	w.flush()
	if got := strings.Count(out.String(), "a | "); got < 4 || !strings.HasSuffix(out.String(), "a | end\n") {
		t.Errorf("%d lines", got)
	}
}

func TestPackagesAreLookedForInOrder(t *testing.T) {
	env, _, _ := guestsEnv("")
	if dirs := (&packagesFlags{}).resolve(env); len(dirs) != 3 || filepath.Base(dirs[0]) != "dist" {
		t.Errorf("by default: %q", dirs)
	}
	env.Getenv = func(name string) string { return map[string]string{"OVSACTL_PACKAGES": "/env"}[name] }
	if dirs := (&packagesFlags{}).resolve(env); len(dirs) != 1 || dirs[0] != "/env" {
		t.Errorf("by environment: %q", dirs)
	}
	if dirs := (&packagesFlags{dir: "/flag"}).resolve(env); len(dirs) != 1 || dirs[0] != "/flag" {
		t.Errorf("by flag: %q", dirs)
	}
}

func TestPackageCommand(t *testing.T) {
	out := filepath.Join(t.TempDir(), "dist")
	env, _, stderr := guestsEnv("")
	env.Args = []string{"package", "--out", out, "--programs", t.TempDir()}
	if code := Run(t.Context(), env); code != 1 || !strings.Contains(stderr.String(), "hint: build the guest programs first") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if entries, _ := os.ReadDir(out); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
}
