package licenseserver_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// systemd hears what a service says of itself.
type systemd struct {
	t      *testing.T
	socket string

	mu   sync.Mutex
	says []string
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	s := &systemd{t: t, socket: filepath.Join(t.TempDir(), "notify")}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.says = append(s.says, string(buf[:n]))
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *systemd) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.says)
}

// until waits until a message matches that came after so many, and returns how many
// there are with it.
func (s *systemd) until(after int, pattern string) int {
	s.t.Helper()
	want := regexp.MustCompile(pattern)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for i, says := range s.heard()[after:] {
			if want.MatchString(says) {
				return after + i + 1
			}
		}
	}
	s.t.Fatalf("systemd does not hear %s: %q", pattern, s.heard()[after:])
	return 0
}

// Another sample.json is taken without a restart, a wrong one is refused with what is
// wrong, and systemd and Prometheus hear of all that.
func TestHostingReload(t *testing.T) {
	g := hostGuide(t, "/usr/bin/python3")
	g.sold("-t Sale")
	g.stored("Sale", "cust", g.path("DB/ovsa.db"))
	g.tool(g.isv, "controlAccess -i @face.xml -n other -d other -v 1 -p @other.dat -m @other.masterlic -k @isv_keystore -g 0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a02")
	g.tool(g.isv, "sale -m @other.masterlic -k @isv_keystore -l @Sale.config -t @runtime.tcb -p @primary_cust.csr.crt -c @Other.lic")
	g.stored("Other", "cust", g.path("DB/ovsa.db"))
	r := g.prepare("model", "Sale.lic")
	first, err := os.ReadFile(g.path("sample.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSystemd(t)
	r.env = []string{"NOTIFY_SOCKET=" + s.socket, "WATCHDOG_USEC=1000000"}
	r.start()
	t.Cleanup(r.end)
	at := s.until(0, "^READY=1$")
	at = s.until(at, "^STATUS=0 of 1 models ready")
	at = s.until(at, "^STATUS=1 of 1 models ready$")
	s.until(at, "^WATCHDOG=1$")
	s.until(at+1, "^WATCHDOG=1$")
	proofs := func(model string, n int) string {
		return fmt.Sprintf(`ovsaruntime_model_proofs_total{model=%q,result="ok",version="1"} %d`, model, n)
	}
	r.measures(`ovsaruntime_model_state{model="controlled-access-model",state="ready",version="1"} 1`, proofs("controlled-access-model", 1),
		"ovsaruntime_engine_up 1", "ovsaruntime_engine_starts_total 1", "ovsaruntime_configuration_refused 0")

	// A wrong one: what was served goes on.
	g.write("sample.json", first[:len(first)-3])
	hangup := func() {
		t.Helper()
		at = len(s.heard())
		if err := r.process.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		at = s.until(at, "^RELOADING=1\nMONOTONIC_USEC=[1-9]")
		s.until(at, "^READY=1$")
	}
	hangup()
	s.until(at, "^STATUS=1 of 1 models ready; the configuration is refused: .*is no JSON")
	if code, out := g.ovsaruntime("status", "-ops", r.address()); code != 0 || !strings.Contains(out, "the configuration is refused since ") || !strings.Contains(out, "is no JSON") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if body, err := r.get("/controlled-access-model/1/face.bin"); err != nil || !bytes.Equal(body, g.files["face.bin"]) {
		t.Errorf("with a wrong configuration: %d bytes, %v", len(body), err)
	}
	r.measures("ovsaruntime_configuration_refused 1", proofs("controlled-access-model", 1), "ovsaruntime_engine_starts_total 1")

	// Another model beside the one that is served, which is not proven again.
	g.copy("other.dat", g.path("artefacts/other/1/model.dat"))
	g.copy("Other.lic", g.path("artefacts/other/1/model.lic"))
	entry := func(name, base string) string {
		return fmt.Sprintf(`{"config":{"name":%q, "base_path":%q, "custom_loader_options": {"loader_name": "ovsa", "keystore": %q, "controlled_access_file": "model"}}}`,
			name, g.path("artefacts/"+base), g.path("cust_keystore"))
	}
	config := func(entries ...string) []byte {
		return []byte(`{"model_config_list":[` + strings.Join(entries, ",") + `]}`)
	}
	g.write("sample.json", config(entry("controlled-access-model", "fd"), entry("other", "other")))
	hangup()
	r.until("ready, ready")
	s.until(at, "^STATUS=2 of 2 models ready$")
	for _, path := range []string{"/controlled-access-model/1/face.xml", "/other/1/face.xml"} {
		if body, err := r.get(path); err != nil || !bytes.Equal(body, g.files["face.xml"]) {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
	r.measures(proofs("controlled-access-model", 1), proofs("other", 1), "ovsaruntime_configuration_refused 0")

	// One that is gone is not served any more, and that is noticed without a signal.
	g.write("sample.json", config(entry("other", "other")))
	r.until("ready")
	if _, err := r.get("/controlled-access-model/1/face.xml"); err == nil {
		t.Error("a model that is not configured any more is served")
	}
	if body, err := r.get("/other/1/face.xml"); err != nil || !bytes.Equal(body, g.files["face.xml"]) {
		t.Errorf("the other: %q, %v", body, err)
	}
	if text := r.measures(proofs("other", 1)); strings.Contains(text, "controlled-access-model") {
		t.Errorf("it is measured: %s", text)
	}
	r.end()
	s.until(at, "^STOPPING=1\n")
}

// count is how many proofs or renewals of the guide's model had a result.
func (r *runner) count(what, result string) (n int) {
	r.g.t.Helper()
	name := fmt.Sprintf(`ovsaruntime_model_%s_total{model="controlled-access-model",result=%q,version="1"} `, what, result)
	_, value, found := strings.Cut(r.measures(), "\n"+name)
	if _, err := fmt.Sscan(value, &n); !found || err != nil {
		r.g.t.Errorf("no %s: %v", name, err)
	}
	return n
}

// measures expects lines of /metrics, which it returns.
func (r *runner) measures(lines ...string) string {
	r.g.t.Helper()
	body, err := fetchBody(r.ops + "/metrics")
	if err != nil {
		r.g.t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains("\n"+string(body), "\n"+line+"\n") {
			r.g.t.Errorf("no %s in\n%s", line, regexp.MustCompile(`(?m)^(#|go_|process_).*\n`).ReplaceAll(body, nil))
		}
	}
	return string(body)
}
