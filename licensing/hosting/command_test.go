package hosting_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// said is an engine that says what it was told, at the port that is its last argument.
var said = []string{"/usr/bin/python3", `
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(" ".join(sys.argv[1:]).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), H).serve_forever()
`}

// A command is told of the models that it sees, at each start, and those that it will not
// answer for are not ready.
func TestArranged(t *testing.T) {
	need.Programs(t, said[0])
	var started atomic.Int32
	w := startWith(t, hosting.Command{
		Args: []string{said[0], "{models}", "{port}"},
		Arrange: func(models []hosting.Shown) (hosting.Arrangement, error) {
			started.Add(1)
			a := hosting.Arrangement{Args: []string{"-c", said[1], "{port}"}, Refuses: func(name string, number int64) error {
				if number != models[0].Number {
					return fmt.Errorf("%s/%d is the one that it has", models[0].Name, models[0].Number)
				}
				return nil
			}}
			for _, m := range models {
				a.Args = append(a.Args, fmt.Sprintf("%s=%d", m.Name, m.Number))
			}
			return a, nil
		},
	}, map[string][]string{"face": {"1", "2"}})
	w.until("face/2 ready, face/1 failed, engine ready")
	if models, _ := w.host.Status(); models[1].Why != "face/2 is the one that it has" {
		t.Errorf("%+v", models[1])
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(w.url, "http://"), ":")
	if _, got := w.get("/"); string(got) != strings.Join([]string{"{port}", "face=2", "face=1", w.dir, port}, " ") {
		t.Errorf("it was told %s", got)
	}
	w.refuse("face/2", errors.New("revoked"))
	w.until("face/2 refused, face/1 ready, engine ready")
	if _, got := w.get("/"); !strings.Contains(string(got), "{port} face=1 "+w.dir) || started.Load() < 2 {
		t.Errorf("it was told %s, started %d times", got, started.Load())
	}
}

// One that can do nothing with them is not started.
func TestNotArranged(t *testing.T) {
	w := startWith(t, hosting.Command{
		Args: []string{"/nowhere"},
		Arrange: func([]hosting.Shown) (hosting.Arrangement, error) {
			return hosting.Arrangement{}, errors.New("no model")
		},
	}, map[string][]string{"face": {"1"}})
	w.until("face/1 licensed, engine failed")
	if _, engine := w.host.Status(); engine.Why != "start the engine: no model" {
		t.Errorf("%+v", engine)
	}
}

// What the configuration has for the engine comes to it, and is another model when it
// is another.
func TestEngineMembers(t *testing.T) {
	m := aModel(t, "a", "1")
	w, e, c := configured(t, m)
	w.until("a/1 ready, engine ready")
	m.Engine = `{"nireq":4}`
	c.set(nil, m)
	w.host.Look(t.Context())
	w.until("a/1 ready, engine ready")
	if got := e.saw(); got[0] != "a/1" || got[len(got)-1] != `a/1{"nireq":4}` {
		t.Errorf("engines saw %q", got)
	}
}
