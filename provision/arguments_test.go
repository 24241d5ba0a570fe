package provision_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// hosts is a manifest with one role that serves models, whose component edit changes.
func hosts(t *testing.T, w *world, edit func(*roles.Component)) *roles.Manifest {
	return manifest(t, w, func(m *roles.Manifest) {
		m.Roles = m.Roles[:1]
		m.Roles[0].Components = []roles.Component{{Name: "model_hosting", Engine: "auto", Timeout: time.Minute}}
		if edit != nil {
			edit(&m.Roles[0].Components[0])
		}
	})
}

func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestArgumentsComeIntoTheGuest: all that a component's arguments say, and again only
// what has changed.
func TestArgumentsComeIntoTheGuest(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	ctx := w.life(t.Context(), 0)
	config := put(t, dir, "sample.json", "{}")
	put(t, dir, "models/face/1/face.dat", "sealed")
	put(t, dir, "models/face/1/face.lic", "licence")
	put(t, dir, "models/face/1/notes.txt", "mine")
	put(t, dir, "models/face.dat", "nowhere")
	trust := put(t, dir, "isv.crt", "certificate")
	clients := put(t, dir, "clients.pem", "authority")
	m := hosts(t, w, func(c *roles.Component) {
		c.Port, c.GRPCPort, c.Engine, c.Command = 8443, 3335, "command", []string{"server", "{models}"}
		c.Config, c.Models, c.ClientCA = config, filepath.Join(dir, "models"), clients
		c.Trust = []roles.Trust{{For: "party", Files: []string{trust}}}
	})
	plan, _, err := apply(ctx, w.engine(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"engine = command", "command = server {models}", "port = 8443", "grpc_port = 3335", "config = sample.json sha256:", "models = 2 files sha256:", "trust.party = isv.crt sha256:", "client_ca = clients.pem sha256:"} {
		if !slices.ContainsFunc(plan.Roles[0].Changes, func(c provision.Change) bool {
			return strings.HasPrefix(strings.TrimPrefix(c.Attribute, "component.model_hosting.")+" = "+c.New, want)
		}) {
			t.Errorf("the plan does not say %q: %v", want, plan.Roles[0].Changes)
		}
	}
	all := []string{
		"model_hosting/model_hosting-1/install.sh port=8443 zstd",
		`restart root's /opt/ovsa/kvm/ovsaruntime.manifest.conf: OVSA_FRONT=":8443" OVSA_FRONT_GRPC=":3335" ENGINE_COMMAND="server {models}" `,
		"reload root:ovsa's /opt/ovsa/kvm/example_runtime/sample.json: {}",
		"remove ovsa's /var/OVSA/Modelserver/client_ca.key: ",
		"restart ovsa's /var/OVSA/Modelserver/client_ca.pem: authority",
		"trust ovsa's party: certificate",
		"notice ovsa's /opt/ovsa/kvm/artefacts/face/1/face.dat: sealed",
		"notice ovsa's /opt/ovsa/kvm/artefacts/face/1/face.lic: licence",
	}
	if got := w.guests["192.168.122.20"]; !slices.Equal(got, all) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(all, "\n"))
	}
	if p, err := w.engine().Plan(ctx, m, provision.PlanOptions{}); err != nil || p.Changed() {
		t.Errorf("again: %v, %v", p, err)
	}

	// Another content of a file is a change in place, in which nothing is installed.
	put(t, dir, "models/face/1/face.lic", "another licence")
	w.guests = make(map[string][]string)
	plan, _, err = apply(ctx, w.engine(), m)
	if err != nil || plan.Roles[0].Action != provision.Update || len(plan.Roles[0].Changes) != 1 {
		t.Errorf("%v, %+v", err, plan)
	}
	all[7] = "notice ovsa's /opt/ovsa/kvm/artefacts/face/1/face.lic: another licence"
	if got := w.guests["192.168.122.20"]; !slices.Equal(got, all[1:]) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}

	// Without arguments the settings are what they are by themselves.
	w.guests = make(map[string][]string)
	if _, _, err = apply(ctx, w.engine(), hosts(t, w, nil)); err != nil {
		t.Fatal(err)
	}
	if got := w.guests["192.168.122.20"]; !slices.Equal(got, []string{"restart root's /opt/ovsa/kvm/ovsaruntime.manifest.conf: "}) {
		t.Errorf("got %q", got)
	}

	// A server that is known by name, and more arguments for it.
	w.guests = make(map[string][]string)
	plan, _, err = apply(ctx, w.engine(), hosts(t, w, func(c *roles.Component) { c.Engine, c.Command = "llama.cpp", []string{"-c", "8192"} }))
	if err != nil || !slices.ContainsFunc(plan.Roles[0].Changes, func(c provision.Change) bool { return c.New == "llama.cpp" }) {
		t.Errorf("%v, %+v", err, plan)
	}
	if got := w.guests["192.168.122.20"]; !slices.Equal(got, []string{`restart root's /opt/ovsa/kvm/ovsaruntime.manifest.conf: OVSA_ENGINE="llama.cpp" ENGINE_COMMAND="-c 8192" `}) {
		t.Errorf("got %q", got)
	}
}

// TestArgumentsAreNotForgotten: the run that makes a guest dies anywhere.
func TestArgumentsAreNotForgotten(t *testing.T) {
	dir := t.TempDir()
	config := put(t, dir, "sample.json", "{}")
	for at := 1; ; at++ {
		w := newWorld(t)
		m := hosts(t, w, func(c *roles.Component) { c.Config = config })
		_, _, died := apply(w.life(t.Context(), at), w.engine(), m)
		ctx := w.life(t.Context(), 0)
		if _, _, err := apply(ctx, w.engine(), m); err != nil {
			t.Fatalf("after death at call %d: %v", at, err)
		}
		if !slices.Contains(w.guests["192.168.122.20"], "reload root:ovsa's /opt/ovsa/kvm/example_runtime/sample.json: {}") {
			t.Errorf("after death at call %d: the file never came", at)
		}
		if p, err := w.engine().Plan(ctx, m, provision.PlanOptions{}); err != nil || p.Changed() {
			t.Errorf("after death at call %d: not converged: %v", at, err)
		}
		if died == nil {
			return
		}
	}
}

func TestArgumentsOfWhatIsNotThere(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	put(t, dir, "empty/README", "")
	put(t, dir, "odd/a b/1/face.dat", "")
	for want, edit := range map[string]func(*roles.Component){
		"config: open":                func(c *roles.Component) { c.Config = filepath.Join(dir, "none") },
		"is not a file":               func(c *roles.Component) { c.ClientCA = dir },
		"models: lstat":               func(c *roles.Component) { c.Models = filepath.Join(dir, "none") },
		"there is no model in":        func(c *roles.Component) { c.Models = filepath.Join(dir, "empty") },
		"has other characters than":   func(c *roles.Component) { c.Models = filepath.Join(dir, "odd") },
		"trust.party: open":           func(c *roles.Component) { c.Trust = []roles.Trust{{For: "party", Files: []string{"/none"}}} },
		`role "isv_dev": component "`: func(c *roles.Component) { c.Config = "/none" },
	} {
		if _, err := w.engine().Plan(w.life(t.Context(), 0), hosts(t, w, edit), provision.PlanOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestReadiness: what units say of themselves is told, and a unit that is not going to
// be ready is the role's failure, with its last words.
func TestReadiness(t *testing.T) {
	for _, tt := range []struct{ says, told, fails string }{
		{"active serving 2 models", "model_hosting: serving 2 models", ""},
		{"active ", "model_hosting: ready", ""},
		{"skipped ", "model_hosting: no models yet", ""},
		{"disabled ", "model_hosting: disabled in the guest", ""},
		{"active \x1b[2J", "model_hosting: ␛[2J", ""},
		{"failed ", "", `component "model_hosting": ovsaruntime.service is failed: its last words`},
		{"something else", "", `the guest says "something else"`},
	} {
		w := newWorld(t)
		w.ready = tt.says
		e := w.engine()
		var mu sync.Mutex
		var told []string
		e.Observe = func(ev provision.Event) {
			mu.Lock()
			defer mu.Unlock()
			if ev.Kind == provision.Note && ev.Step == "role.isv_dev/ready" {
				told = append(told, ev.Text)
			}
		}
		_, report, err := apply(w.life(t.Context(), 0), e, hosts(t, w, nil))
		if tt.fails == "" && (err != nil || !slices.Equal(told, []string{tt.told})) {
			t.Errorf("%q: %v, told %q", tt.says, err, told)
		}
		if tt.fails != "" && (err == nil || report.Roles[0].Failed != "ready" || !strings.Contains(report.Roles[0].Error, tt.fails) || !strings.Contains(report.Roles[0].Hint, "journalctl -u ovsaruntime.service")) {
			t.Errorf("%q: %v, %+v, %s", tt.says, err, report, hint.Of(err))
		}
	}
}

// TestImagesHaveWhatComponentsUse: those of the roles that start from them.
func TestImagesHaveWhatComponentsUse(t *testing.T) {
	w := newWorld(t)
	m := hosts(t, w, nil)
	m.Images[0].Build.Packages = []string{"curl"}
	got := provision.ImageSource(m, m.Images[0]).Build
	if !slices.Equal(got.Packages, []string{"curl", "libonnxruntime1.21", "nginx-light"}) || !slices.Equal(got.Disabled, []string{"nginx.service"}) {
		t.Errorf("%+v", got)
	}
	if p := m.Images[0].Build.Packages; !slices.Equal(p, []string{"curl"}) {
		t.Errorf("the manifest has %q now", p)
	}
	// Whoever asks for nginx has it start.
	m.Images[0].Build.Packages, m.Images[0].Build.Suite = []string{"nginx-light"}, "bookworm"
	if got := provision.ImageSource(m, m.Images[0]).Build; !slices.Equal(got.Packages, []string{"nginx-light"}) || len(got.Disabled) > 0 {
		t.Errorf("%+v", got)
	}
	m.Roles[0].Components[0].Path = "theirs.tar.gz"
	m.Images[0].Build.Packages = nil
	if got := provision.ImageSource(m, m.Images[0]).Build; len(got.Packages) > 0 {
		t.Errorf("%+v", got)
	}
	if got := provision.ImageSource(m, m.Images[1]); got.Build != nil || got.URL == "" {
		t.Errorf("%+v", got)
	}
}
