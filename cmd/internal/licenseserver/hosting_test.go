package licenseserver_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsaruntime"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// hostGuide is newGuide where models can be served, with programs.
func hostGuide(t testing.TB, programs ...string) *guide {
	t.Helper()
	need.Root(t)
	need.Programs(t, append(programs, "/dev/fuse")...)
	return newGuide(t)
}

// TestHosting is the guide's last part: a customer's guest serves what it has bought,
// with a server that knows nothing of licences, for as long as it may.
func TestHosting(t *testing.T) {
	g := hostGuide(t, "/usr/bin/python3")
	g.sold("-t InstanceLimit -l 1")
	g.stopServer()
	db := g.path("DB/ovsa.db")
	g.stored("InstanceLimit", "cust", db)
	lasting := []string{"-lease", "4s", "-proof-every", "12s", "-guest-rate", "10:100"}
	server := g.processAt(g.address, db, lasting...)
	r := g.hosted("face_detection_model", "InstanceLimit.lic")
	if code, out := g.ovsaruntime("status", "-ops", r.address(), "-wait", "20s"); code != 0 || !strings.Contains(out, "waiting for the runtime\n") || !strings.Contains(out, "controlled-access-model/1  ready  ") {
		t.Errorf("waited for: exit %d\n%s", code, out)
	}
	r.until("ready")
	for name, want := range g.files {
		if body, err := r.get("/controlled-access-model/1/" + name); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}

	if code, out := g.ovsaruntime("status", "-ops", r.address()); code != 0 || !strings.Contains(out, "controlled-access-model/1  ready  ") || !strings.Contains(out, "the model server is ready since ") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	check := []string{"check", "-config", g.path("sample.json"), "-host-port", string(g.port(g.guestVM)), "-ops", r.address()}
	if code, out := g.ovsaruntime(check...); code != 1 || !strings.Contains(out, "another proof would end that") {
		t.Errorf("a check while it is served: exit %d\n%s", code, out)
	}

	// It goes on: renewals, more proofs than one, and a server that was killed.
	first := r.status().Models[0].Proven
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	server.Wait()
	g.processAt(g.address, db, lasting...)
	for end := time.Now().Add(40 * time.Second); !r.status().Models[0].Proven.After(first); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not proven again")
		}
	}
	if s := r.status(); s.Models[0].State != "ready" || s.Engine.Started != 1 {
		t.Errorf("after another proof: %+v", s)
	}
	if p, n := r.count("proofs", "ok"), r.count("renewals", "ok"); p < 2 || n < 1 {
		t.Errorf("%d proofs and %d renewals are counted", p, n)
	}

	// Revoked, it stops, and allowed again it comes back.
	licence, _ := g.bought("InstanceLimit.lic")
	g.server("revoke licence " + string(licence.LicenceGUID) + " -reason contract -db " + db)
	r.until("refused")
	if code, out := g.ovsaruntime("status", "-ops", r.address(), "-wait", "20s"); code != 1 || !strings.Contains(out, "controlled-access-model/1  refused  ") || !strings.Contains(out, "no model is ready") {
		t.Errorf("waited for what is refused: exit %d\n%s", code, out)
	}
	if _, err := r.get("/"); err == nil {
		t.Error("the server of a revoked model answers")
	}
	if why := r.status().Models[0].Why; !strings.Contains(why, "revoked") {
		t.Errorf("why: %s", why)
	}
	g.server("unrevoke licence " + string(licence.LicenceGUID) + " -db " + db)
	r.until("ready")
	if body, err := r.get("/controlled-access-model/1/face.bin"); err != nil || !bytes.Equal(body, g.files["face.bin"]) {
		t.Errorf("allowed again: %d bytes, %v", len(body), err)
	}

	// Its place is free when it ends, for a check, too.
	r.end()
	if code, out := g.ovsaruntime(check...); code != 0 || !strings.Contains(out, "ok      controlled-access-model/1: 2 files, a lease until ") {
		t.Errorf("check: exit %d\n%s", code, out)
	}
	if code, out := g.ovsaruntime("status", "-ops", r.address()); code != 1 || !strings.Contains(out, "hint: does `ovsaruntime serve` run") {
		t.Errorf("status of nothing: exit %d\n%s", code, out)
	}
	l, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	use, err := l.Usage(t.Context(), string(licence.LicenceGUID), string(licence.ModelGUID), time.Now())
	if err != nil || use.Held != 0 {
		t.Errorf("usage %+v, %v", use, err)
	}
}

// A guest that cannot be proven again in time stops, says why, and goes on when it can.
func TestHostingWithoutAnotherProof(t *testing.T) {
	g := hostGuide(t, "/usr/bin/python3")
	g.sold("-t Sale")
	g.stopServer()
	db := g.path("DB/ovsa.db")
	g.stored("Sale", "cust", db)
	g.processAt(g.address, db, "-lease", "4s", "-proof-every", "5s", "-guest-rate", "10:100")
	r := g.hosted("model", "Sale.lic")
	r.until("ready")
	away := g.path("cust_keystore.away")
	if err := os.Rename(g.path("cust_keystore"), away); err != nil {
		t.Fatal(err)
	}
	r.until("refused")
	if r.count("proofs", "ok") != 1 || r.count("proofs", "failed") < 1 {
		t.Errorf("%d proofs, and %d that failed", r.count("proofs", "ok"), r.count("proofs", "failed"))
	}
	if log := r.log.String(); !strings.Contains(log, "it could not be proven again in time") {
		t.Errorf("the log is %s", log)
	}
	if why := r.status().Models[0].Why; !strings.Contains(why, "key store") {
		t.Errorf("why: %s", why)
	}
	if _, err := r.get("/"); err == nil {
		t.Error("the model's server answers")
	}
	if err := os.Rename(away, g.path("cust_keystore")); err != nil {
		t.Fatal(err)
	}
	r.until("ready")
}

// Whenever the runtime dies, the model's server dies with it, and nothing is mounted.
// The next one gets the lease again.
func TestHostingKilled(t *testing.T) {
	g := hostGuide(t, "/usr/bin/python3")
	g.sold("-t InstanceLimit -l 1")
	g.stored("InstanceLimit", "cust", g.path("DB/ovsa.db"))
	r := g.hosted("model", "InstanceLimit.lic")
	// Not in the middle of a proof: what is in the TPM then, a guest's kernel removes, and
	// here there is none between.
	for _, when := range []string{"licensed", "ready", "licensed"} {
		r.until(when, "ready")
		if err := r.process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		r.process.Wait()
		r.process = nil
		for end := time.Now().Add(10 * time.Second); len(r.left()) > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("killed when %s: there is %q", when, r.left())
			}
		}
		if _, err := r.get("/"); err == nil {
			t.Error("the model's server answers")
		}
		r.start()
	}
	r.until("ready")
	if body, err := r.get("/controlled-access-model/1/face.bin"); err != nil || !bytes.Equal(body, g.files["face.bin"]) {
		t.Errorf("in the end: %d bytes, %v", len(body), err)
	}
}

// left are processes, and mounts of theirs, that have to do with the models' directory.
func (r *runner) left() (left []string) {
	r.g.t.Helper()
	dir := r.args[4]
	for _, what := range []string{"cmdline", "mountinfo"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + what)
		if err != nil {
			r.g.t.Fatal(err)
		}
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir) {
				left = append(left, path)
			}
		}
	}
	return left
}

// ovsaruntime runs a command in the customer's guest, and returns all that it says.
func (g *guide) ovsaruntime(args ...string) (code int, said string) {
	g.t.Helper()
	var out bytes.Buffer
	code = ovsaruntime.Program(keystore.Machine()).Run(g.t.Context(), guestcli.Env{
		Args: args, Stdout: &out, Stderr: &out,
		Getenv: func(name string) string {
			return map[string]string{"OVSA_TPM": g.runtime, "OVSA_TRUST": g.path("trust")}[name]
		},
	})
	return code, out.String()
}

// What is wrong with a model is said, and another is served.
func TestHostingWrongFiles(t *testing.T) {
	g := hostGuide(t, "/usr/bin/python3")
	g.sold("-t Sale")
	g.stored("Sale", "cust", g.path("DB/ovsa.db"))
	g.tool(g.isv, "controlAccess -i @face.xml -n other -d other -v 1 -p @other.dat -m @other.masterlic -k @isv_keystore -g 0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a02")
	r := g.hosted("model", "Sale.lic",
		func(base string) { // 2: another model
			g.copy("other.dat", base+"/2/model.dat")
			g.copy("Sale.lic", base+"/2/model.lic")
		},
		func(base string) { // 3: no licence
			g.copy("face.dat", base+"/3/model.dat")
		},
		func(base string) { // 4: cut
			g.copy("Sale.lic", base+"/4/model.lic")
			data, err := os.ReadFile(g.path("face.dat"))
			if err != nil {
				t.Fatal(err)
			}
			g.write("cut.dat", data[:len(data)/2])
			g.copy("cut.dat", base+"/4/model.dat")
		},
		func(base string) { // 5: not a licence
			g.copy("face.dat", base+"/5/model.dat")
			g.copy("face.xml", base+"/5/model.lic")
		},
	)
	r.until("refused, refused, refused, refused, ready")
	for i, want := range []string{"model.lic", "the model container is incomplete", "model.lic: no such file", "the licence is for another model: other"} {
		if m := r.status().Models[i]; !strings.Contains(m.Why, want) {
			t.Errorf("version %d: %q, want %q", m.Version, m.Why, want)
		}
	}
	if body, err := r.get("/controlled-access-model/1/face.bin"); err != nil || !bytes.Equal(body, g.files["face.bin"]) {
		t.Errorf("the good one: %d bytes, %v", len(body), err)
	}
	r.end()
	code, out := g.ovsaruntime("check", "-config", g.path("sample.json"), "-host-port", string(g.port(g.guestVM)), "-ops", r.address())
	if code != 1 || strings.Count(out, "failed  ") != 4 || strings.Count(out, "ok      ") != 1 || !strings.Contains(out, "the ISV sells a licence with the .masterlic") {
		t.Errorf("check: exit %d\n%s", code, out)
	}
}

// files is a server that knows nothing of licences.
const files = `
import functools, http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), files).serve_forever()
`

// runner is `ovsaruntime serve` in the customer's guest.
type runner struct {
	g        *guide
	url, ops string
	args     []string
	env      []string // more of it
	program  string   // which it is; "" for that of the test
	log      *testlog.Log
	process  *exec.Cmd
}

// start starts it, as a process of its own.
func (r *runner) start() {
	r.g.t.Helper()
	r.process = exec.Command(cmp.Or(r.program, os.Args[0]))
	r.process.Args = append([]string{"ovsaruntime"}, r.args...)
	r.process.Env = append(os.Environ(), "OVSA_TPM="+r.g.runtime, "OVSA_TRUST="+r.g.path("trust"))
	r.process.Env = append(r.process.Env, r.env...)
	r.process.Stderr = r.log
	if err := r.process.Start(); err != nil {
		r.g.t.Fatal(err)
	}
}

// end ends it, and insists that it does.
func (r *runner) end() {
	r.g.t.Helper()
	if r.process == nil {
		return
	}
	r.process.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() {
		r.g.t.Error("the runtime does not end")
		r.process.Process.Kill()
	})
	defer kill.Stop()
	r.process.Wait()
	r.process = nil
}

// copy puts a file where a customer would.
func (g *guide) copy(name, to string) {
	g.t.Helper()
	data, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600)); err != nil {
		g.t.Fatal(err)
	}
}

// hosted serves a licence's model as the guide's sample.json says, with files of that
// stem, and what else is made in its directory.
func (g *guide) hosted(stem, lic string, more ...func(base string)) *runner {
	g.t.Helper()
	r := g.prepare(stem, lic, more...)
	r.start()
	g.t.Cleanup(r.end)
	return r
}

// prepare is hosted, but for the start.
func (g *guide) prepare(stem, lic string, more ...func(base string)) *runner {
	g.t.Helper()
	base := g.path("artefacts/fd")
	g.copy("face.dat", filepath.Join(base, "1", stem+".dat"))
	g.copy(lic, filepath.Join(base, "1", stem+".lic"))
	for _, make := range more {
		make(base)
	}
	return g.runner(fmt.Sprintf(`{
		"custom_loader_config_list":[{"config":{"loader_name":"ovsa", "library_path": "/ovsa-runtime/lib/libovsaruntime.so"}}],
		"model_config_list":[{"config":{"name":"controlled-access-model", "base_path":%q,
			"custom_loader_options": {"loader_name": "ovsa", "keystore": %q, "controlled_access_file": %q}}}]}`, base, g.path("cust_keystore"), stem))
}

// runner has the runtime serve what a sample.json says.
func (g *guide) runner(config string) *runner {
	g.t.Helper()
	g.write("sample.json", []byte(config))
	models := g.t.TempDir()
	for _, dir := range []string{models, filepath.Dir(models)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			g.t.Fatal(err)
		}
	}
	address, ops := licensetest.FreeAddress(g.t), licensetest.FreeAddress(g.t)
	_, port, _ := strings.Cut(address, ":")
	r := &runner{g: g, url: "http://" + address, ops: "http://" + ops, log: new(testlog.Log)}
	r.args = []string{"serve", "-config", g.path("sample.json"), "-models", models, "-port", port, "-user", "nobody", "-ops", ops, "-front", "off",
		"-host-port", string(g.port(g.guestVM)), "--", "/usr/bin/python3", "-c", files, "{models}", "{port}"}
	return r
}

func (r *runner) address() string { return strings.TrimPrefix(r.ops, "http://") }

func (r *runner) get(path string) ([]byte, error) {
	return fetchBody(r.url + path)
}

func fetchBody(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(response.Body)
}

// told is /status.
type told struct {
	Models []struct {
		Version int
		State   string
		Why     string
		Proven  time.Time `json:"last_proof"`
	}
	Engine struct {
		State   string
		Started int
	}
}

func (r *runner) status() (s told) {
	body, err := fetchBody(r.ops + "/status")
	if err != nil || json.Unmarshal(body, &s) != nil {
		return told{}
	}
	return s
}

// until waits for the states of the versions, the newest first: for one of those.
func (r *runner) until(wanted ...string) {
	r.g.t.Helper()
	got := ""
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var all []string
		for _, m := range r.status().Models {
			all = append(all, m.State)
		}
		if got = strings.Join(all, ", "); slices.Contains(wanted, got) {
			return
		}
	}
	r.g.t.Fatalf("%q, want %q; the log is\n%s", got, wanted, r.log)
}
