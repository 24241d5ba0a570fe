package licenseserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/inference/gguftest"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// llamaServer is Debian's, as `make test-deps` unpacks it.
const llamaServer = "bin/llama/llama-server"

// completion is what a model goes on with.
func completion(post func(path, body string) (int, string), prompt string) (string, error) {
	body, err := json.Marshal(map[string]any{"model": "controlled-access-model", "prompt": prompt, "max_tokens": 12, "temperature": 0})
	if err != nil {
		return "", err
	}
	code, answer := post("/v1/completions", string(body))
	var said struct {
		Model   string
		Choices []struct{ Text string }
	}
	if json.Unmarshal([]byte(answer), &said) != nil || code != http.StatusOK || len(said.Choices) != 1 || said.Model != "controlled-access-model" {
		return "", fmt.Errorf("%d, %s", code, answer)
	}
	return said.Choices[0].Text, nil
}

// plainly is what llama-server goes on with by itself, with the file as it is.
func plainly(t *testing.T, program, model, prompt string) string {
	t.Helper()
	address := licensetest.FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	process, err := run.Cmd{Path: program, Args: []string{"-m", model, "-a", "controlled-access-model", "--host", "127.0.0.1", "--port", port}}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		process.Signal(os.Kill)
		process.Wait()
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := fetchBody("http://" + address + "/health"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("llama-server does not answer")
		}
	}
	text, err := completion(func(path, body string) (int, string) {
		response, err := http.Post("http://"+address+path, "application/json", strings.NewReader(body))
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		var answer json.RawMessage
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			return response.StatusCode, err.Error()
		}
		return response.StatusCode, string(answer)
	}, prompt)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestHostingLlama: a licensed language model is answered for by llama-server, which
// knows nothing of licences, behind nginx, and as it answers with the plain file.
func TestHostingLlama(t *testing.T) {
	g := hostGuide(t, "nginx")
	need.Tool(t, llamaServer)
	program, err := filepath.EvalSymlinks(filepath.Join("../../..", llamaServer)) // an engine sees nothing in /tmp
	if err != nil {
		t.Fatal(err)
	}
	db := g.path("DB/ovsa.db")
	var words []string
	for i := range 10000 { // of some chunks
		words = append(words, "word"+strconv.Itoa(i))
	}
	// The guide's model has nothing for llama-server.
	g.sold("-t Sale")
	g.stored("Sale", "cust", db)
	for from, to := range map[string]string{"face.dat": "guide.dat", "Sale.lic": "guide.lic", "face.masterlic": "guide.masterlic", "Sale.config": "guide.config"} {
		if err := os.Rename(g.path(from), g.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	g.write("chat.gguf", gguftest.Llama(1, words...))
	g.write("other.gguf", gguftest.Llama(2, words...))
	g.tool(g.isv, "controlAccess -i @chat.gguf -n chat -d chat -v 1 -p @face.dat -m @face.masterlic -k @isv_keystore -g 1f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a03")
	g.sold("-t Sale")
	g.stored("Sale", "cust", db)
	certs := g.path("Modelserver")
	if code, out := g.ovsaruntime("gencerts", "-certs", certs, "-client", "client"); code != 0 {
		t.Fatalf("gencerts: exit %d\n%s", code, out)
	}
	const prompt = "word1 word2 zanzibar"
	want := plainly(t, program, g.path("chat.gguf"), prompt)
	if other := plainly(t, program, g.path("other.gguf"), prompt); strings.TrimSpace(want) == "" || other == want {
		t.Fatalf("one model says %q, and another %q", want, other)
	}

	r := g.prepare("model", "Sale.lic", func(base string) {
		g.copy("guide.dat", filepath.Join(base, "2", "model.dat"))
		g.copy("guide.lic", filepath.Join(base, "2", "model.lic"))
	})
	f := r.front(certs)
	r.args = append(r.args[:slices.Index(r.args, "--")], "-engine", "llama.cpp", "--", program, "-c", "128")
	r.start()
	t.Cleanup(r.end)
	r.until("failed, ready")
	if m := r.status().Models[0]; m.Version != 2 || m.Why != "it has no file *.gguf" {
		t.Errorf("version %d: %q", m.Version, m.Why)
	}

	client := f.client("client")
	post := func(path, body string) (int, string) {
		code, answer := f.ask(client, http.MethodPost, f.rest+path, []byte(body))
		return code, string(answer)
	}
	if got, err := completion(post, prompt); err != nil || got != want {
		t.Errorf("it says %q (%v), want %q", got, err, want)
	}
	var models struct{ Data []struct{ ID string } }
	code, answer := f.ask(client, http.MethodGet, f.rest+"/v1/models", nil)
	if err := json.Unmarshal(answer, &models); err != nil || code != 200 || len(models.Data) != 1 || models.Data[0].ID != "controlled-access-model" {
		t.Errorf("its models: %d, %s (%v)", code, answer, err)
	}

	// Nobody else is answered, and nobody sees what others ask.
	if code, answer := f.ask(f.with(nil), http.MethodGet, f.rest+"/v1/models", nil); code == 200 || strings.Contains(string(answer), "controlled-access-model") {
		t.Errorf("without a certificate: %d, %s", code, answer)
	}
	for _, path := range []string{"/slots", "/props", "/metrics", "/"} {
		if code, answer := f.ask(client, http.MethodGet, f.rest+path, nil); path != "/props" && code == 200 || strings.Contains(string(answer), "zanzibar") {
			t.Errorf("%s: %d, %s", path, code, answer)
		}
	}
	if code, answer := post("/v1/completions", `{"prompt":"zanzibar`); code != 400 || !strings.Contains(answer, "zanzibar") {
		t.Errorf("a cut request: %d, %s", code, answer)
	}
	if log := r.log.String(); strings.Contains(log, "zanzibar") {
		t.Errorf("the log is %s", log)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.rest+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://elsewhere.example")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if allowed := response.Header.Get("Access-Control-Allow-Origin"); allowed == "*" || strings.Contains(allowed, "elsewhere") {
		t.Errorf("a page elsewhere may ask for it: %q", allowed)
	}

	r.end()
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}

	// With a chunk that is wrong it is not served, and that is said.
	sealed := filepath.Join(g.path("artefacts/fd"), "1", "model.dat")
	data, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)*2/3] ^= 1
	if err := os.WriteFile(sealed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	for end := time.Now().Add(30 * time.Second); r.status().Engine.State != "failed"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v; the log is %s", r.status(), r.log)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "the model container was changed: chunk ") || !strings.Contains(log, "error loading model: read error: Input/output error") {
		t.Errorf("the log is %s", log)
	}
}
