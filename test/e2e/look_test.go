//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// look uses every verb that looks at guests or reaches into them. The runtime
// has a display by now.
func (s *story) look(t *testing.T) {
	s.lookAtStatus(t)
	s.untilPrompt(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // of stdout
	}{
		{"exec in all", []string{"exec", "-f", s.file, "--all", "--", "hostname"}, 0, "runtime | ovsa-runtime\n"},
		{"exec as JSON", []string{"exec", "-f", s.file, "--all", "--json", "--", "sh", "-c", "echo out; exit 7"}, 1, `{"role":"runtime","stream":"stdout","line":"out"}`},
		{"exec's exit code as JSON", []string{"exec", "-f", s.file, "runtime", "--json", "--", "sh", "-c", "exit 7"}, 7, `{"role":"runtime","exit":7,`},
		{"exec's exit code", []string{"exec", "-f", s.file, "runtime", "--", "sh", "-c", "echo out; exit 7"}, 7, "out\n"},
		{"ssh's exit code", []string{"ssh", "-f", s.file, "runtime", "--", "sh", "-c", "exit 9"}, 9, ""},
		{"ssh's arguments", []string{"ssh", "-f", s.file, "runtime", "--", "printf", "%s|", "a b", "$HOME", "*"}, 0, "a b|$HOME|*|"},
		{"state", []string{"exec", "-f", s.file, "--all", "--", "systemctl", "is-system-running", "--wait"}, 0, "runtime | running\n"},
		{"journal", []string{"logs", "--file", s.file, "--unit", "ssh", "isv_dev"}, 0, "ssh"},
	} {
		r := s.ovsactl(t, c.args...)
		if r.code != c.code || !strings.Contains(r.stdout, c.want) {
			t.Errorf("%s: want exit %d and %q: %v", c.name, c.code, c.want, r)
		}
	}
	s.lookThrough(t)
	s.copyThere(t)
}

// untilPrompt waits for what a guest prints last at its console: it lets us in
// before.
func (s *story) untilPrompt(t *testing.T) {
	t.Helper()
	for range 60 {
		if strings.Contains(s.must(t, "logs", "--file", s.file, "runtime").stdout, "ovsa-runtime login:") {
			return
		}
		time.Sleep(time.Second)
	}
	t.Error("no login prompt in the serial log")
}

func (s *story) lookAtStatus(t *testing.T) {
	t.Helper()
	type component struct{ Name, Version string }
	list := decode[[]struct {
		Role, State, Address, VTPM, Action string
		Uptime                             int64 `json:"uptime_ns"`
		Simulated                          bool
		Components                         []component
		Drift                              []any
	}](t, s.must(t, "status", s.file, "--json"))
	if len(list) != 2 {
		t.Fatalf("%d roles", len(list))
	}
	for i, address := range []string{"192.168.122.20", "192.168.122.30"} {
		r := list[i]
		if r.State != "running" || r.Address != address || r.Uptime <= 0 || r.VTPM != "bound" || !r.Simulated ||
			len(r.Components) == 0 || r.Components[0].Version == "" || len(r.Drift) != 0 || r.Action != "none" {
			t.Errorf("status of %s: %+v", r.Role, r)
		}
	}
}

// lookThrough: the display, and the console, left with Ctrl-].
func (s *story) lookThrough(t *testing.T) {
	t.Helper()
	shot := filepath.Join(s.dir, "screen.png")
	s.must(t, "screenshot", "-f", s.file, "runtime", shot)
	if data, err := os.ReadFile(shot); err != nil || !strings.HasPrefix(string(data), "\x89PNG\r\n\x1a\n") {
		t.Errorf("screenshot: %d bytes, %v", len(data), err)
	}
	cmd := s.command(s.program, "console", "-f", s.file, "runtime")
	cmd.Stdin = strings.NewReader("\r\x1d")
	if r := execute(t, cmd); r.code != 0 {
		t.Errorf("console: %v", r)
	}
}

// copyThere copies a tree into a guest and back.
func (s *story) copyThere(t *testing.T) {
	t.Helper()
	tree := filepath.Join(s.dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	data := random(1 << 20)
	if err := os.WriteFile(filepath.Join(tree, "deep", "model.bin"), data, 0o640); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(s.dir, "back")
	if err := os.Mkdir(back, 0o755); err != nil {
		t.Fatal(err)
	}
	s.must(t, "cp", "-f", s.file, "-r", tree, "runtime:/tmp")
	s.must(t, "cp", "-f", s.file, "-r", "runtime:/tmp/tree", back)
	got, err := os.ReadFile(filepath.Join(back, "tree", "deep", "model.bin"))
	if err != nil || string(got) != string(data) {
		t.Errorf("it came back with %d bytes, %v", len(got), err)
	}
	if r := s.ovsactl(t, "cp", "-f", s.file, "runtime:/nowhere", back); r.code != 1 || !strings.Contains(r.stderr, "nowhere") {
		t.Errorf("cp of what is not there: %v", r)
	}
}
