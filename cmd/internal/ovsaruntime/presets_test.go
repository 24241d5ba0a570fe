package ovsaruntime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// sampleOf is a sample.json of models, with more members in each.
func sampleOf(more string, names ...string) string {
	var list []string
	for _, name := range names {
		list = append(list, fmt.Sprintf(`{"config":{%s"name":%q,"base_path":"/m","custom_loader_options":{"loader_name":"ovsa","keystore":"/k","controlled_access_file":"s"}}}`, more, name))
	}
	return `{"model_config_list":[` + strings.Join(list, ",") + `]}`
}

func TestModelOf(t *testing.T) {
	for _, tt := range []struct{ files, want, wrong string }{
		{"chat.gguf", "chat.gguf", ""},
		{"README chat.gguf licence.txt", "chat.gguf", ""},
		{"chat.bin chat.xml", "", "it has no file *.gguf"},
		{"a.gguf b.gguf", "", `it has more models than one, "a.gguf" and "b.gguf"`},
		{"c-00002-of-00002.gguf c-00001-of-00002.gguf", "c-00001-of-00002.gguf", ""},
		{"c-00001-of-00001.gguf", "c-00001-of-00001.gguf", ""},
		{"c-00001-of-00002.gguf", "", `it has 1 files of a model of 2, as "c-00001-of-00002.gguf"`},
		{"c-00002-of-00003.gguf c-00003-of-00003.gguf c-00004-of-00003.gguf", "", "it has 3 files of a model of 3"},
		{"c-00001-of-00002.gguf d-00002-of-00002.gguf", "", `it has more models than one, "c-00001-of-00002.gguf" and "d-00002-of-00002.gguf"`},
		{"c-00001-of-00002.gguf c-00002-of-00003.gguf", "", "it has more models than one"},
		{"c-00001-of-00001.gguf mmproj.gguf", "", "it has more models than one"},
	} {
		got, err := modelOf(strings.Fields(tt.files))
		if got != tt.want || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %q, %v; want %q, %s", tt.files, got, err, tt.want, tt.wrong)
		}
	}
}

// llama-server has the newest version that is a model for it, and says why the others are
// not answered for.
func TestLlamaServer(t *testing.T) {
	good, bad := []string{"m.gguf"}, []string{"m.xml"}
	const line = "-m /models/chat/%d/m.gguf -a chat --load-mode dio --host 127.0.0.1 --port 8000 --no-webui --no-slots -lv 1 --cors-origins localhost --offline"
	for name, tt := range map[string]struct {
		versions []version
		served   int
		refuses  string // of each
	}{
		"one":                   {[]version{{"chat", 7, good}}, 7, "<nil>"},
		"the newest":            {[]version{{"chat", 10, good}, {"chat", 2, good}}, 10, "<nil>; llama-server answers for one version, and that is chat/10"},
		"one that is no model":  {[]version{{"chat", 3, bad}, {"chat", 2, good}, {"chat", 1, good}}, 2, "it has no file *.gguf; <nil>; llama-server answers for one version, and that is chat/2"},
		"only what is no model": {[]version{{"chat", 3, bad}, {"chat", 2, bad}}, 0, "llama-server has no model: chat/3: it has no file *.gguf"},
	} {
		got, err := llamaServer("/models", "8000", tt.versions)
		if tt.served == 0 {
			if err == nil || err.Error() != tt.refuses {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || strings.Join(got.Args, " ") != fmt.Sprintf(line, tt.served) {
			t.Errorf("%s: %q, %v", name, got.Args, err)
			continue
		}
		var refuses []string
		for _, v := range tt.versions {
			refuses = append(refuses, fmt.Sprint(got.Refuses(v.name, v.number)))
		}
		if s := strings.Join(refuses, "; "); s != tt.refuses {
			t.Errorf("%s: %s", name, s)
		}
	}
}

// What is written for OpenVINO Model Server has each model once, with what sample.json
// says to that server, and nothing of ours.
func TestOVMSConfig(t *testing.T) {
	sample := strings.Replace(sampleOf(`"nireq":4,"batch_size":"auto","shape":{"x":"(1,3,224,224)"},"layout":"NHWC:NCHW","plugin_config":{"NUM_STREAMS":2,"PERFORMANCE_HINT":"LATENCY","EXCLUSIVE":true},"target_device":"CPU","allow_cache":true,"model_version_policy":{"latest":{"num_versions":1}},`, "face", "text"), `"nireq":4`, `"nireq": 0`, 1)
	config, err := hosting.ParseConfig([]byte(sample), membersOf(ovmsKind)...)
	if err != nil {
		t.Fatal(err)
	}
	var ignored []string
	for i := range 2 {
		for _, name := range []string{"allow_cache", "model_version_policy"} {
			ignored = append(ignored, fmt.Sprintf("model_config_list[%d].config.%s", i, name))
		}
	}
	if !slices.Equal(config.Ignored, ignored) {
		t.Errorf("ignored: %q", config.Ignored)
	}
	var shown []hosting.Shown
	for _, m := range append(config.Models, hosting.ModelConfig{Name: "without"}) {
		for _, n := range []int64{2, 1} {
			shown = append(shown, hosting.Shown{Name: m.Name, Number: n, Engine: m.Engine})
		}
	}
	got, err := ovmsConfig("/run/ovsa/models", shown)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "ovms.json")
	if os.Getenv("OVSA_UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; it is\n%s", err, got)
	}
}

// A value that the server would not take is a wrong configuration: it would refuse all
// models for it.
func TestMembersOfOVMS(t *testing.T) {
	for _, tt := range []struct {
		member string
		fits   bool
	}{
		{`"nireq":0`, true}, {`"nireq":-1`, false}, {`"nireq":1.5`, false}, {`"nireq":"4"`, false}, {`"nireq":1e300`, false}, {`"nireq":4.0`, false}, {`"nireq":null`, false},
		{`"batch_size":8`, true}, {`"batch_size":"auto"`, true}, {`"batch_size":-8`, false}, {`"batch_size":[8]`, false},
		{`"shape":"auto"`, true}, {`"shape":{"x":"(1,3)"}`, true}, {`"shape":{"x":[1,3]}`, false}, {`"shape":[1,3]`, false},
		{`"layout":"NCHW"`, true}, {`"layout":{"x":"NCHW"}`, true}, {`"layout":{"x":1}`, false},
		{`"plugin_config":{}`, true}, {`"plugin_config":{"A":"x","B":1.5,"C":false}`, true}, {`"plugin_config":{"A":{}}`, false}, {`"plugin_config":{"A":null}`, false}, {`"plugin_config":"A"`, false},
		{`"target_device":"CPU"`, true}, {`"target_device":0`, false},
	} {
		sample := []byte(sampleOf(tt.member+",", "m"))
		c, err := hosting.ParseConfig(sample, membersOf(ovmsKind)...)
		if tt.fits && (err != nil || c.Models[0].Engine != "{"+tt.member+"}") {
			t.Errorf("%s: %v, %+v", tt.member, err, c)
		}
		name, _, _ := strings.Cut(tt.member[1:], `"`)
		if !tt.fits && (!errors.Is(err, hosting.ErrConfig) || !strings.Contains(err.Error(), "model_config_list[0].config."+name+" is not what the engine takes: want ")) {
			t.Errorf("%s: %v", tt.member, err)
		}
		// To the other engines it means nothing, and nothing is started anew for it.
		if c, err := hosting.ParseConfig(sample, membersOf(llamaKind)...); err != nil || c.Models[0].Engine != "" || len(c.Ignored) != 1 {
			t.Errorf("%s, for another engine: %v, %+v", tt.member, err, c)
		}
	}
}

func TestWritePublic(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // as the unit has it
	file := filepath.Join(t.TempDir(), "engine", "config.json")
	if err := writePublic(file, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{file: 0o644, filepath.Dir(file): os.ModeDir | 0o755} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// What cannot work is said before anything is begun.
func TestPresetsThatCannotWork(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, sample := range map[string]string{"one.json": sampleOf("", "a"), "two.json": sampleOf("", "a", "b")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(sample), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ line, want, hint string }{
		{"-engine llama.cpp -config two.json", "model_config_list has 2 models, and llama-server answers for one", "have each of the others served by a runtime"},
		{"-engine llama.cpp -config one.json", `there is no program "llama-server"`, "Debian has it in llama.cpp-tools"},
		{"-engine llama.cpp -config one.json -- -c 4096", `there is no program "llama-server"`, "-- /path/to/llama-server"},
		{"-engine llama.cpp -config one.json -- /nowhere/server -c 4096", `there is no program "/nowhere/server"`, ""},
		{"-engine ovms -config two.json", `there is no program "ovms"`, "-- /path/to/ovms"},
		{"-engine vllm -config one.json", `want auto, onnxruntime, openvino, ovms, llama.cpp, command`, ""},
	} {
		var out bytes.Buffer
		args := strings.Fields(strings.ReplaceAll(tt.line, "-config ", "-config "+dir+"/"))
		code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{
			Args: append([]string{"serve", "-models", filepath.Join(dir, "models"), "-user", "nobody", "-front", "off", "-ops", "off"}, args...), Stdout: &out, Stderr: &out,
		})
		if code == 0 || !strings.Contains(out.String(), tt.want) || !strings.Contains(out.String(), tt.hint) {
			t.Errorf("%s: exit %d\n%s", tt.line, code, &out)
		}
	}
}
