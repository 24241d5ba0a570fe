package hosting_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// The test's program is the launcher, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "launch" {
		fmt.Fprintln(os.Stderr, hosting.Launch(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "hog" {
		hog(os.Args[2])
	}
	os.Exit(m.Run())
}

// licensor lets some models be used.
type licensor struct {
	t   *testing.T
	key licensing.Key
	dat []byte

	mu      sync.Mutex
	refused map[string]error
	over    map[string]chan error
	got     []string // as they were acquired
	closed  int
	slow    chan struct{} // closed to let "slow" be acquired
}

type licensed struct {
	l    *licensor
	m    *model.Model
	over chan error
}

func (l *licensor) Acquire(ctx context.Context, v hosting.Version) (hosting.Licensed, error) {
	name := v.Model.Name + "/" + strconv.FormatInt(v.Number, 10)
	if v.Model.Name == "slow" {
		select {
		case <-l.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refused[name]; err != nil {
		return nil, err
	}
	o := model.Opener{Verify: func(b []byte) ([]byte, error) { return b, nil }}
	c, err := o.Open(ctx, bytes.NewReader(l.dat), int64(len(l.dat)))
	if err != nil {
		return nil, err
	}
	m, err := c.Unlock(l.key)
	if err != nil {
		return nil, err
	}
	over := make(chan error, 1)
	l.over[name] = over
	l.got = append(l.got, name)
	return &licensed{l, m, over}, nil
}

func (l *licensor) refuse(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused[name] = err; err != nil && l.over[name] != nil {
		l.over[name] <- err
		l.over[name] = nil
	}
}

func (l *licensed) Model() *model.Model { return l.m }

func (l *licensed) Lease() (until, proven time.Time) { return time.Now().Add(time.Minute), time.Now() }

func (l *licensed) Keep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-l.over:
		return err
	}
}

func (l *licensed) Close() {
	l.m.Close()
	l.l.mu.Lock()
	defer l.l.mu.Unlock()
	l.l.closed++
}

// content is what looks like nothing else.
func content(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// world is a host with an engine that serves files.
type world struct {
	*licensor
	host *hosting.Host
	dir  string            // in which models appear
	base map[string]string // of each model
	url  string
	data []byte
	log  *testlog.Log
	read modelfs.Counters
	end  func()
}

const nobody = 65534

// newWorld has a model.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		licensor: &licensor{t: t, key: licensing.NewKey(), refused: map[string]error{}, over: map[string]chan error{}, slow: make(chan struct{})},
		dir:      t.TempDir(), base: map[string]string{}, data: content(3*model.ChunkSize + 5), log: new(testlog.Log),
	}
	var dat bytes.Buffer
	s := model.Sealer{Key: w.key, Info: model.Info{Name: "face", Version: "1", GUID: "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01"}, Sign: func(b []byte) ([]byte, error) { return b, nil }}
	if _, err := s.Seal(t.Context(), &dat, []model.Source{{Name: "face.bin", Reader: bytes.NewReader(w.data)}}); err != nil {
		t.Fatal(err)
	}
	w.dat = dat.Bytes()
	return w
}

// run runs a host until the test ends, or end.
func (w *world) run(o hosting.Options) {
	t := w.t
	w.host = hosting.New(o)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.host.Run(ctx) }()
	w.end = sync.OnceFunc(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("it does not end")
		}
	})
	t.Cleanup(w.end)
}

// start starts a host of models, each with its versions.
func start(t *testing.T, command []string, models map[string][]string) *world {
	t.Helper()
	need.Programs(t, "/usr/bin/python3")
	return startWith(t, hosting.Command{Args: command}, models)
}

// startWith starts one with a command that answers at a port, unless it says another
// address.
func startWith(t *testing.T, c hosting.Command, models map[string][]string) *world {
	t.Helper()
	return startAs(t, func(c hosting.Command) hosting.Engine { return c }, c, models)
}

// startAs is startWith another engine made of the command.
func startAs(t *testing.T, engine func(hosting.Command) hosting.Engine, c hosting.Command, models map[string][]string) *world {
	t.Helper()
	need.Root(t)
	need.Programs(t, "/dev/fuse")
	w := newWorld(t)
	for _, dir := range []string{w.dir, filepath.Dir(w.dir)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var configs []hosting.ModelConfig
	for name, versions := range models {
		base := t.TempDir()
		for _, v := range versions {
			if err := os.Mkdir(filepath.Join(base, v), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		w.base[name] = base
		configs = append(configs, hosting.ModelConfig{Name: name, BasePath: base, Stem: "face"})
	}
	_, port, _ := strings.Cut(licensetest.FreeAddress(t), ":")
	w.url = "http://127.0.0.1:" + port
	c.Counters = &w.read
	c.Dir, c.UID, c.GID, c.Launcher, c.Log = w.dir, nobody, nobody, []string{os.Args[0], "launch"}, slog.New(slog.NewTextHandler(w.log, nil))
	if c.REST == "" {
		c.REST = "127.0.0.1:" + port
	}
	w.run(hosting.Options{
		Models: configs, Licensor: w.licensor, Log: c.Log, Again: 50 * time.Millisecond, MaxAgain: 200 * time.Millisecond, Look: 50 * time.Millisecond, Settle: 2 * time.Second,
		Engine: engine(c),
	})
	return w
}

// files is an engine that serves the models' files themselves.
var files = []string{"/usr/bin/python3", "-c", `
import functools, http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), files).serve_forever()
`, "{models}", "{port}"}

func (w *world) get(path string) (int, []byte) {
	response, err := http.Get(w.url + path)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return -1, nil
	}
	return response.StatusCode, body
}

// until waits for a state of the models, as "name/version state, ..., engine state".
func (w *world) until(want string) {
	w.t.Helper()
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var all []string
		models, engine := w.host.Status()
		for _, s := range models {
			all = append(all, fmt.Sprintf("%s/%d %s", s.Name, s.Version, s.State))
		}
		if got = strings.Join(append(all, "engine "+string(engine.State)), ", "); got == want {
			return
		}
	}
	log := w.log.String()
	w.t.Fatalf("%s, want %s; the log ends\n%s", got, want, log[max(0, len(log)-2000):])
}

func TestServes(t *testing.T) {
	w := start(t, files, map[string][]string{"face": {"1", "2"}, "other": {"7"}, "none": nil})
	w.until("face/2 ready, face/1 ready, none/0 refused, other/7 ready, engine ready")
	for _, path := range []string{"/face/1/face.bin", "/face/2/face.bin", "/other/7/face.bin"} {
		if code, body := w.get(path); code != 200 || !bytes.Equal(body, w.data) {
			t.Errorf("%s: %d, %d bytes", path, code, len(body))
		}
	}
	if n := w.read.Read.Load(); n < uint64(3*len(w.data)) {
		t.Errorf("%d bytes are said to be read", n)
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) > 0 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
	models, engine := w.host.Status()
	if models[0].Lease.IsZero() || models[0].Proven.IsZero() || models[0].Why != "" || engine.Version != 1 {
		t.Errorf("%+v, %+v", models[0], engine)
	}
	if !strings.Contains(models[2].Why, "no directory in") {
		t.Errorf("%+v", models[2])
	}

	// One may not be used any more: it is gone, and the others are served.
	w.refuse("face/1", errors.New("revoked"))
	w.until("face/2 ready, face/1 refused, none/0 refused, other/7 ready, engine ready")
	if code, _ := w.get("/face/1/face.bin"); code != 404 {
		t.Errorf("revoked: %d", code)
	}
	if code, body := w.get("/face/2/face.bin"); code != 200 || !bytes.Equal(body, w.data) {
		t.Errorf("another: %d", code)
	}
	if models, _ := w.host.Status(); models[1].Why != "revoked" {
		t.Errorf("%+v", models[1])
	}

	// It comes back when it may.
	w.refuse("face/1", nil)
	w.until("face/2 ready, face/1 ready, none/0 refused, other/7 ready, engine ready")
	if code, body := w.get("/face/1/face.bin"); code != 200 || !bytes.Equal(body, w.data) {
		t.Errorf("again: %d", code)
	}

	// None may: nothing answers.
	for _, name := range []string{"face/1", "face/2", "other/7"} {
		w.refuse(name, errors.New("expired"))
	}
	w.until("face/2 refused, face/1 refused, none/0 refused, other/7 refused, engine waiting")
	if code, _ := w.get("/"); code != 0 {
		t.Errorf("an engine without models answers %d", code)
	}
	w.end()
	if w.closed != 4 {
		t.Errorf("%d keys of 4 are wiped", w.closed)
	}
}

// Versions come, change and go while others are served.
func TestVersionsComeAndGo(t *testing.T) {
	w := start(t, files, map[string][]string{"face": {"1"}, "none": nil})
	w.until("face/1 ready, none/0 refused, engine ready")
	for _, dir := range []string{w.base["face"] + "/2", w.base["none"] + "/1"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.until("face/2 ready, face/1 ready, none/1 ready, engine ready")
	if code, body := w.get("/face/2/face.bin"); code != 200 || !bytes.Equal(body, w.data) {
		t.Errorf("a new one: %d", code)
	}

	if err := os.WriteFile(w.base["face"]+"/2/face.lic", []byte("another licence"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		got := strings.Join(w.got, " ")
		w.mu.Unlock()
		if strings.Count(got, "face/2") == 2 && strings.Count(got, "face/1") == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("acquired: %s", got)
		}
	}
	w.until("face/2 ready, face/1 ready, none/1 ready, engine ready")

	for _, dir := range []string{w.base["face"] + "/1", w.base["none"] + "/1"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	w.until("face/2 ready, none/0 refused, engine ready")
	if code, _ := w.get("/face/1/face.bin"); code != 404 {
		t.Errorf("one that is gone: %d", code)
	}
}

// A model that takes long to be had does not keep the others waiting for ever.
func TestSlowModel(t *testing.T) {
	w := start(t, files, map[string][]string{"face": {"1"}, "slow": {"1"}})
	w.until("face/1 ready, slow/1 proving, engine ready")
	close(w.slow)
	w.until("face/1 ready, slow/1 ready, engine ready")
}

// An engine is another user, alone with what it sees, and cannot become more.
func TestEngineIsEnclosed(t *testing.T) {
	w := start(t, []string{"/usr/bin/python3", "-c", `
import glob, http.server, os, sys
def lines():
    status = dict(l.split() for l in open("/proc/self/status") if len(l.split()) == 2)
    yield "pid %d" % os.getpid()
    yield "ids %s %s %s" % (os.getresuid(), os.getresgid(), os.getgroups())
    yield "caps %s %s" % (status["CapEff:"], status["CapPrm:"])
    yield "no new privileges %s" % status["NoNewPrivs:"]
    yield "processes %s" % sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
    yield "files %s" % sorted(int(os.path.basename(f)) for f in glob.glob("/proc/self/fd/*") if os.path.lexists(f))
    yield "environment %s" % sorted(os.environ)
    yield "core %s" % open("/proc/self/limits").read().split("Max core file size")[1].split("\n")[0].split()[:2]
text = "\n".join(lines()).encode()
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(text)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
`, "{port}"}, map[string][]string{"face": {"1"}})
	w.until("face/1 ready, engine ready")
	_, body := w.get("/")
	want := `pid 1
ids (65534, 65534, 65534) (65534, 65534, 65534) []
caps 0000000000000000 0000000000000000
no new privileges 1
processes [1]
files [0, 1, 2]
environment ['HOME', 'LANG', 'PATH']
core ['0', '0']`
	if got := strings.ReplaceAll(string(body), "'LC_CTYPE', ", ""); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
}

// What it writes is nowhere, and what it must not do the kernel refuses.
const forbidden = `
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, f):
    try:
        return "%s: %s" % (what, f())
    except OSError as e:
        return "%s: %s" % (what, e.strerror)
def call(n, *args):
    if libc.syscall(n, *args) < 0:
        e = ctypes.get_errno(); raise OSError(e, os.strerror(e))
    return "done"
def lines():
    yield tried("write", lambda: open("/var/x", "w"))
    yield tried("write beside the models", lambda: open(sys.argv[1] + "/x", "w"))
    yield tried("write scratch", lambda: open("/var/tmp/x", "w").write("x"))
    yield tried("run scratch", lambda: (os.chmod("/var/tmp/x", 0o755), os.execv("/var/tmp/x", ["x"])))
    yield tried("user namespace", lambda: call(272, 0x10000000))
    yield tried("ptrace", lambda: call(101, 16, 1, 0, 0))
`

// An engine with sockets of a path has no network, and those who are let in reach it.
func TestEngineHasNoNetwork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine", "http")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { // as a umask has it
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // of a dead one
		t.Fatal(err)
	}
	const clients = 4711
	w := startWith(t, hosting.Command{REST: "unix:" + path, GRPC: "unix:" + filepath.Join(filepath.Dir(path), "grpc"), Clients: clients, Health: "/ready", Served: "/{model}/{version}",
		Args: []string{"/usr/bin/python3", "-c", `
import http.server, os, sys
` + forbidden + `
def text():
    yield "given %s %s, pid %s" % (os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], int(os.environ["LISTEN_PID"]) == os.getpid())
    yield "files %s" % sorted(int(f) for f in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + f))
    yield "networks %s" % [n for _, n in socket.if_nameindex()]
    yield tried("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2]))))
    yield from lines()
class H(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "-"
    def do_GET(self):
        body = "\n".join(text()).encode() if self.path == "/text" else b'{"error": "no such layer"}'
        self.send_response(503 if self.path == "/face/2" else 200); self.end_headers(); self.wfile.write(body)
server = http.server.HTTPServer(("", 0), H, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
`, "{models}", "80"}}, map[string][]string{"face": {"1", "2"}})
	w.until("face/2 failed, face/1 ready, engine ready")
	if models, _ := w.host.Status(); models[0].Why != "no such layer" {
		t.Errorf("%+v", models[0])
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != clients || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the socket is %v (%v)", info, err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its directory is %v (%v)", info, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	response, err := client.Get("http://engine/text")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	want := `given 2 http:grpc, pid True
files [0, 1, 2, 3, 4, 5]
networks ['lo']
connect: Network is unreachable
write: Read-only file system
write beside the models: Read-only file system
write scratch: 1
run scratch: Permission denied
user namespace: Operation not permitted
ptrace: Operation not permitted`
	if err != nil || string(got) != want {
		t.Errorf("it says\n%s\n(%v), want\n%s", got, err, want)
	}
	if _, err := os.Stat("/var/tmp/x"); err == nil {
		t.Error("what it writes is here")
	}
}

// One that ends is started again, one that cannot be started says why, and neither
// ends the host.
func TestEngineEnds(t *testing.T) {
	w := start(t, []string{"/usr/bin/python3", "-c", "import sys; sys.exit('no memory')"}, map[string][]string{"face": {"1"}})
	w.until("face/1 licensed, engine failed")
	if _, engine := w.host.Status(); !strings.Contains(engine.Why, "ended before it was ready") && !strings.Contains(engine.Why, "the engine ended") || !strings.Contains(engine.Why, "exit status 1") {
		t.Errorf("%+v", engine)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, engine := w.host.Status(); engine.Version >= 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not started again")
		}
	}
	if log := w.log.String(); !strings.Contains(log, "no memory") {
		t.Errorf("the log does not have what it said:\n%s", log)
	}
	w.end()

	w = start(t, []string{"no-such-program"}, map[string][]string{"face": {"1"}})
	w.until("face/1 licensed, engine failed")
	if log := w.log.String(); !strings.Contains(log, `there is no program \"no-such-program\"`) {
		t.Errorf("the log has\n%s", log)
	}
}

// Nothing is left of an engine that does not listen to SIGTERM, and of what it has
// started.
func TestEngineIsStopped(t *testing.T) {
	w := start(t, []string{"/usr/bin/python3", "-c", `
import http.server, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
f = open(sys.argv[1] + "/face/1/face.bin", "rb")
if os.fork() == 0:
    os.setsid()
    while True:
        f.seek(0); f.read(1); time.sleep(0.01)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()
`, "{models}", "{port}"}, map[string][]string{"face": {"1"}})
	w.until("face/1 ready, engine ready")
	w.end()
	if code, _ := w.get("/"); code != 0 {
		t.Errorf("it answers %d", code)
	}
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		if text, _ := os.ReadFile(path); bytes.Contains(text, []byte(w.dir)) {
			t.Errorf("%s is left: %q", path, text)
		}
	}
}
