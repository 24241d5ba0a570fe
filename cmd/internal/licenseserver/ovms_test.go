package licenseserver_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// playedOVMS has the flags of OpenVINO Model Server that it is given here, reads its
// configuration and directories as that does, and answers whether it has a version. The
// program itself is in no distribution and on no package index.
const playedOVMS = `#!/usr/bin/python3
import argparse, http.server, json, os, re, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
p = argparse.ArgumentParser(allow_abbrev=False)
for name in "port", "rest_port", "file_system_poll_wait_seconds":
    p.add_argument("--" + name, type=int, required=True)
for name in "config_path", "grpc_bind_address", "rest_bind_address", "log_level":
    p.add_argument("--" + name, required=True)
args = p.parse_args()
config = open(args.config_path).read()
models = {m["config"]["name"]: m["config"]["base_path"] for m in json.loads(config)["model_config_list"]}

class H(http.server.BaseHTTPRequestHandler):
    def answer(self, code, text):
        self.send_response(code); self.end_headers(); self.wfile.write(text.encode())
    def do_GET(self):
        if self.path == "/v2/health/ready":
            return self.answer(200, "")
        if self.path == "/told":
            return self.answer(200, json.dumps([vars(args), json.loads(config)]))
        m = re.fullmatch(r"/v2/models/([^/]+)/versions/([0-9]+)/ready", self.path)
        if m is None or m[1] not in models:
            return self.answer(404, json.dumps({"error": "Model with requested name is not found"}))
        files = os.listdir(os.path.join(models[m[1]], m[2]))
        if not any(f.endswith(".xml") for f in files):
            return self.answer(404, json.dumps({"error": "Model with requested version is not loaded yet"}))
        self.answer(200, "")
http.server.ThreadingHTTPServer((args.rest_bind_address, args.rest_port), H).serve_forever()
`

// TestHostingOVMS: OpenVINO Model Server finds the licensed models, and a version that
// it cannot use is not ready.
func TestHostingOVMS(t *testing.T) {
	g := hostGuide(t, "nginx", "/usr/bin/python3")
	g.sold("-t Sale")
	db, certs, dir := g.path("DB/ovsa.db"), g.path("Modelserver"), licensetest.ProgramDir(t)
	g.stored("Sale", "cust", db)
	for from, to := range map[string]string{"face.dat": "first.dat", "Sale.lic": "first.lic", "face.masterlic": "first.masterlic", "Sale.config": "first.config"} {
		if err := os.Rename(g.path(from), g.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	g.write("text.bin", []byte("nothing for it"))
	g.tool(g.isv, "controlAccess -i @text.bin -n text -d text -v 1 -p @face.dat -m @face.masterlic -k @isv_keystore -g 1f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a04")
	g.sold("-t Sale")
	g.stored("Sale", "cust", db)
	if code, out := g.ovsaruntime("gencerts", "-certs", certs, "-client", "client"); code != 0 {
		t.Fatalf("gencerts: exit %d\n%s", code, out)
	}
	program := filepath.Join(dir, "ovms")
	if err := os.WriteFile(program, []byte(playedOVMS), 0o755); err != nil {
		t.Fatal(err)
	}
	r := g.prepare("model", "Sale.lic", func(base string) {
		g.copy("first.dat", filepath.Join(base, "2", "model.dat"))
		g.copy("first.lic", filepath.Join(base, "2", "model.lic"))
	})
	sample, err := os.ReadFile(g.path("sample.json"))
	if err != nil {
		t.Fatal(err)
	}
	g.write("sample.json", []byte(strings.Replace(string(sample), `"name":"controlled`, `"nireq":2, "name":"controlled`, 1)))
	r.args[4] = filepath.Join(dir, "models") // its server sees nothing in /tmp
	f := r.front(certs)
	r.args = append(r.args[:slices.Index(r.args, "--")], "-engine", "ovms", "--", program, "--log_level", "ERROR")
	r.start()
	t.Cleanup(r.end)
	r.until("ready, failed")
	if m := r.status().Models[1]; m.Version != 1 || m.Why != "Model with requested version is not loaded yet" {
		t.Errorf("version %d: %q", m.Version, m.Why)
	}
	code, told := f.ask(f.client("client"), http.MethodGet, f.rest+"/told", nil)
	for _, want := range []string{
		`"file_system_poll_wait_seconds": 0`, `"grpc_bind_address": "127.0.0.1"`, `"rest_bind_address": "127.0.0.1"`, `"log_level": "ERROR"`,
		`{"model_config_list": [{"config": {"base_path": "` + dir + `/models/controlled-access-model", "model_version_policy": {"all": {}}, "name": "controlled-access-model", "nireq": 2}}]}`,
	} {
		if code != 200 || !strings.Contains(string(told), want) {
			t.Errorf("it is told %d, %s; want %s", code, told, want)
		}
	}
	if log := r.log.String(); strings.Contains(log, `"member":"model_config_list[0].config.nireq"`) {
		t.Errorf("it is told that nireq means nothing: %s", log)
	}
	r.end()
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
}
