package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/engine"
	"github.com/ovsactl/ovsactl/internal/inference/onnxtest"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// The test's program is the engine, too, which gives up rights for ever.
func TestMain(m *testing.M) {
	if os.Args[0] == "ovsa-engine" {
		if os.Getenv("TRY") != "" {
			go try()
		}
		os.Exit(engine.Program().Main())
	}
	os.Exit(m.Run())
}

// try does what no engine is to do, once models are loaded: whatever is in its process
// is held to what it gave up.
func try() {
	for {
		if status, err := os.ReadFile("/proc/self/status"); err == nil && bytes.Contains(status, []byte("\nSeccomp:\t2\n")) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, err := net.Dial("tcp", "127.0.0.1:1")
	fmt.Fprintln(os.Stderr, "connect:", errors.Is(err, syscall.EPERM))
	err = exec.Command("/bin/true").Run()
	fmt.Fprintln(os.Stderr, "start:", errors.Is(err, syscall.EPERM))
	err = syscall.Unshare(syscall.CLONE_NEWUSER)
	fmt.Fprintln(os.Stderr, "become:", errors.Is(err, syscall.EPERM))
}

const (
	onnxRuntime = "bin/onnxruntime/libonnxruntime.so.1.21.1"
	openVINO    = "bin/openvino"
)

// library is one of those that `make test-deps` fetches.
func library(t *testing.T, name, known string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../..", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		need.Absent(t, known, "there is no "+name)
	}
	return path
}

// models is a directory with two versions of a model, the newer broken.
func models(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for version, data := range map[string][]byte{"1": onnxtest.Affine([]float32{1, 2, 3, 10, 20, 30}, []float32{0.5, 0, -1}), "2": []byte("something else")} {
		path := filepath.Join(dir, "affine", version)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "model.onnx"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// process is an engine that runs.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log *testlog.Log
}

func start(t *testing.T, files []*os.File, env []string, args ...string) *process {
	t.Helper()
	p := &process{t, exec.Command(os.Args[0]), new(testlog.Log)}
	p.cmd.Args = append([]string{"ovsa-engine"}, args...)
	p.cmd.Env, p.cmd.ExtraFiles, p.cmd.Stderr = append(os.Environ(), env...), files, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

// answer asks until there is an answer.
func (p *process) answer(c *http.Client, method, url, body string) (int, string) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		request, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		response, err := c.Do(request)
		if err == nil {
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				p.t.Fatal(err)
			}
			return response.StatusCode, string(answer)
		}
		if time.Now().After(end) {
			p.t.Fatalf("%v; the log is\n%s", err, p.log)
		}
	}
}

// end ends it, and wants it to be no failure.
func (p *process) end() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != 0 {
		p.t.Errorf("it ends with %v; the log is\n%s", err, p.log)
	}
}

const infer = `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[2,1]}]}`

func TestServe(t *testing.T) {
	for runtime, path := range map[string]string{"onnxruntime": library(t, onnxRuntime, onnxRuntime), "openvino": library(t, openVINO, "openvino")} {
		t.Run(runtime, func(t *testing.T) {
			at := licensetest.FreeAddress(t)
			p := start(t, nil, []string{"TRY=1"}, "serve", "-models", models(t), "-http", at, "-grpc", "off", "-runtime", runtime, "-library", path)
			for _, c := range []struct {
				method, path, body string
				code               int
				has                string
			}{
				{"GET", "/v2/health/live", "", 200, ""},
				{"GET", "/v2/models/affine/versions/1/ready", "", 200, ""},
				{"GET", "/v2/models/affine/versions/2/ready", "", 503, "version 2 of model"}, // and why not
				{"GET", "/v2/models/other/ready", "", 404, "other"},
				{"POST", "/v2/models/affine/infer", infer, 200, "[12.5,24.0,35.0]"}, // by the newest that there is
				{"POST", "/v2/models/affine/versions/2/infer", infer, 503, "not available"},
				{"POST", "/v1/models/affine:predict", `{"instances":[[2,1],[0,0]]}`, 200, "[0.5,0"},
				{"GET", "/v1/models/affine", "", 200, "AVAILABLE"},
				{"GET", "/metrics", "", 200, `ovsa_engine_requests_total{model="affine",result="ok",version="1"} 2`},
				{"GET", "/metrics", "", 200, `ovsa_engine_model_loaded{model="affine",version="2"} 0`},
			} {
				code, body := p.answer(http.DefaultClient, c.method, "http://"+at+c.path, c.body)
				if code != c.code || !strings.Contains(strings.Join(strings.Fields(body), " "), c.has) && !strings.Contains(strings.Join(strings.Fields(body), ""), c.has) {
					t.Errorf("%s %s: %d, %s", c.method, c.path, code, body)
				}
			}
			// What it gave up, it has no more.
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
			if err != nil || !bytes.Contains(status, []byte("\nSeccomp:\t2\n")) || !bytes.Contains(status, []byte("\nNoNewPrivs:\t1\n")) {
				t.Errorf("it may do all (%v)\n%s", err, status)
			}
			p.end()
			for _, want := range []string{"connect: true\n", "start: true\n", "become: true\n"} {
				if !strings.Contains(p.log.String(), want) {
					t.Errorf("no %q in\n%s", want, p.log)
				}
			}
			if log := p.log.String(); !strings.Contains(log, "a model cannot be loaded") || !strings.Contains(log, "msg=serving") {
				t.Errorf("the log is\n%s", log)
			}
		})
	}
}

// It takes the sockets that it is given, as systemd gives them.
func TestGivenSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// Its process's number is known to itself alone: a shell puts it there.
	p := &process{t, exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec -a ovsa-engine "$@"`, "sh", os.Args[0], "serve", "-models", models(t), "-runtime", "onnxruntime", "-library", library(t, onnxRuntime, onnxRuntime)), new(testlog.Log)}
	p.cmd.Path = "/bin/bash"
	p.cmd.Env, p.cmd.ExtraFiles, p.cmd.Stderr = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=http"), []*os.File{file}, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	if code, body := p.answer(client, "POST", "http://engine/v2/models/affine/infer", infer); code != 200 {
		t.Errorf("%d, %s", code, body)
	}
	client.CloseIdleConnections()
	p.end()
}

func TestMistakes(t *testing.T) {
	dir := models(t)
	for args, want := range map[string]string{
		"serve": "-models",
		"serve -models " + dir + " -runtime tensorrt":                                                                      "want auto, onnxruntime or openvino",
		"serve -models " + dir + " -library /nowhere":                                                                      "say of which -runtime",
		"serve -models " + dir + " -runtime onnxruntime -library /nowhere -http 127.0.0.1:0":                               "/nowhere",
		"serve -models " + dir + " -runtime openvino -library /nowhere -http 127.0.0.1:0":                                  "/nowhere",
		"serve -models " + dir + " -max-request 0":                                                                         "want a number from 1",
		"serve -models /nowhere -runtime onnxruntime -http off -grpc off -library " + library(t, onnxRuntime, onnxRuntime): "look for models",
		"describe /nowhere -runtime onnxruntime -library " + library(t, onnxRuntime, onnxRuntime):                          "load the model",
		"describe " + dir + "/affine/2 -runtime onnxruntime -library " + library(t, onnxRuntime, onnxRuntime):              "no model that can be loaded",
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Args = append([]string{"ovsa-engine"}, strings.Fields(args)...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

func TestDescribe(t *testing.T) {
	dir := models(t) + "/affine/1"
	for runtime, path := range map[string]string{"onnxruntime": library(t, onnxRuntime, onnxRuntime), "openvino": library(t, openVINO, "openvino")} {
		cmd := exec.Command(os.Args[0])
		cmd.Args = []string{"ovsa-engine", "describe", "-json", "-runtime", runtime, "-library", path, dir}
		text, err := cmd.Output()
		var d struct {
			Runtime         string
			Inputs, Outputs []struct {
				Name, Datatype string
				Shape          []int64
			}
		}
		if err != nil || json.Unmarshal(text, &d) != nil || fmt.Sprint(d.Inputs, d.Outputs) != "[{x FP32 [-1 2]}] [{y FP32 [-1 3]}]" || !strings.HasPrefix(strings.ToLower(d.Runtime), runtime) {
			t.Errorf("%s: %v\n%s", runtime, err, text)
		}
	}
}
