package hosting_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/cgroup"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// group is a control group in which something is killed, or not.
type group struct {
	killed, closed *atomic.Bool
	err            error
}

func (g group) Dir() *os.File         { return nil }
func (g group) Killed() (bool, error) { return g.killed.Load(), g.err }
func (g group) Close() error          { g.closed.Store(true); return g.err }

// What an engine's group says of its end is said of the engine.
func TestEngineUsesTooMuch(t *testing.T) {
	for name, tt := range map[string]struct {
		memory int64
		killed bool
		broken error
		want   string
		log    string
	}{
		"it ends by itself":              {memory: 64 << 20, want: "the engine ended: stopped"},
		"its limit":                      {memory: 64 << 20, killed: true, want: "the engine ended: the engine used more memory than it may: its limit is 64 MiB: stopped"},
		"an odd limit":                   {memory: 65537, killed: true, want: "its limit is 65537 bytes"},
		"the machine's":                  {killed: true, want: "the machine had no more"},
		"nobody knows, and it cannot be": {memory: 64 << 20, broken: errors.New("device busy"), want: "the engine ended: stopped", log: "device busy"},
	} {
		t.Run(name, func(t *testing.T) {
			e, w := new(engines), newWorld(t)
			g := group{new(atomic.Bool), new(atomic.Bool), tt.broken}
			var kills atomic.Uint64
			log := slog.New(slog.NewTextHandler(w.log, nil))
			w.run(hosting.Options{
				Models: []hosting.ModelConfig{aModel(t, "a", "1")}, Licensor: w.licensor, Log: log, Again: time.Hour, MaxAgain: time.Hour,
				Engine: hosting.Limited{
					Engine: func(*os.File) hosting.Engine { return e }, Group: func() (hosting.Group, error) { return g, nil },
					Memory: tt.memory, Kills: &kills, Log: log,
				},
			})
			w.until("a/1 ready, engine ready")
			g.killed.Store(tt.killed)
			e.mu.Lock()
			e.last.Stop()
			e.mu.Unlock()
			w.until("a/1 licensed, engine failed")
			if _, engine := w.host.Status(); !strings.Contains(engine.Why, tt.want) {
				t.Errorf("why: %s", engine.Why)
			}
			if !g.closed.Load() || (kills.Load() == 1) != tt.killed || !strings.Contains(w.log.String(), tt.log) {
				t.Errorf("closed %t, %d kills, logged %s", g.closed.Load(), kills.Load(), w.log)
			}
		})
	}
}

// Without a group no engine begins.
func TestEngineWithoutAGroup(t *testing.T) {
	e, w := new(engines), newWorld(t)
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.run(hosting.Options{
		Models: []hosting.ModelConfig{aModel(t, "a", "1")}, Licensor: w.licensor, Log: log, Again: time.Hour, MaxAgain: time.Hour,
		Engine: hosting.Limited{
			Engine: func(*os.File) hosting.Engine { return e }, Group: func() (hosting.Group, error) { return nil, errors.New("no groups") }, Log: log,
		},
	})
	w.until("a/1 licensed, engine failed")
	if saw := e.saw(); len(saw) > 0 {
		t.Errorf("engines saw %q", saw)
	}
}

// An engine begins in the control group that it is given, with all that it starts.
func TestEngineBeginsInItsGroup(t *testing.T) {
	need.Root(t)
	self, err := cgroup.Self()
	if err != nil {
		need.Absent(t, "cgroup2", err.Error())
	}
	dir := aGroup(t, self)
	t.Cleanup(func() { os.Remove(dir) })
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	need.Programs(t, "/usr/bin/python3")
	w := startWith(t, hosting.Command{Cgroup: group, Args: []string{"/usr/bin/python3", "-c", `
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(open("/proc/self/cgroup", "rb").read())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
`, "{port}"}}, map[string][]string{"face": {"1"}})
	w.until("face/1 ready, engine ready")
	if _, body := w.get("/"); !strings.Contains(string(body), "/"+filepath.Base(dir)+"\n") {
		t.Errorf("it is in %s", body)
	}
	w.end()
	if left, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(left) > 0 {
		t.Errorf("there are %s, %v", left, err)
	}
}

// aGroup makes a control group in another.
func aGroup(t *testing.T, in cgroup.Group) string {
	t.Helper()
	dir := filepath.Join(in.Dir(), fmt.Sprintf("ovsa-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hog is an engine that takes a lot of memory when somebody asks it.
func hog(port string) {
	err := http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/use" {
			b := make([]byte, 512<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			fmt.Fprintln(w, len(b))
		}
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// An engine that uses more than its limit is killed with that as the reason, and comes
// back.
func TestEngineIsKilledForItsMemory(t *testing.T) {
	need.Root(t)
	groups := delegated(t)
	program := filepath.Join(licensetest.ProgramDir(t), "hog")
	licensetest.CopyProgram(t, os.Args[0], program)
	var kills atomic.Uint64
	const limit = 128 << 20
	w := startAs(t, func(c hosting.Command) hosting.Engine {
		return hosting.Limited{
			Engine: func(group *os.File) hosting.Engine { c.Cgroup = group; return c },
			Group:  func() (hosting.Group, error) { return groups.New("engine", limit) },
			Memory: limit, Kills: &kills, Log: c.Log,
		}
	}, hosting.Command{Args: []string{program, "hog", "{port}"}}, map[string][]string{"face": {"1"}})
	w.until("face/1 ready, engine ready")
	if code, body := w.get("/use"); code == 200 {
		t.Errorf("it uses %s bytes", body)
	}
	for end := time.Now().Add(20 * time.Second); kills.Load() == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	w.until("face/1 ready, engine ready")
	if log := w.log.String(); kills.Load() != 1 || !strings.Contains(log, "the engine used more memory than it may: its limit is 128 MiB") {
		t.Errorf("%d kills, the log is %s", kills.Load(), log)
	}
	if _, engine := w.host.Status(); engine.Version < 2 {
		t.Errorf("%+v", engine)
	}
}

// delegated puts the test into a control group that is its own to divide, until it ends.
func delegated(t *testing.T) cgroup.Divided {
	t.Helper()
	before, err := cgroup.Self()
	if err != nil {
		need.Absent(t, "cgroup2", err.Error())
	}
	if text, err := os.ReadFile(filepath.Join(before.Dir(), "cgroup.controllers")); err != nil || !strings.Contains(string(text), "memory") {
		need.Absent(t, "cgroup2", "control groups of version 2 do not limit memory here")
	}
	unit := aGroup(t, before)
	enter := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	t.Cleanup(func() {
		if err := errors.Join(enter(before.Dir()), os.Remove(filepath.Join(unit, "runtime")), os.Remove(unit)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.WriteFile(filepath.Join(before.Dir(), "cgroup.subtree_control"), []byte("+memory"), 0), unix.Setxattr(unit, "trusted.delegate", []byte("1"), 0), enter(unit)); err != nil {
		t.Fatal(err)
	}
	self, err := cgroup.Self()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.Divide(self)
	if err != nil {
		t.Fatal(err)
	}
	return groups
}
