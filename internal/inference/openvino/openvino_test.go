package openvino

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/need"
)

// root is the module's.
var root = filepath.Join("..", "..", "..")

// libs is the directory of the libraries that go into guests.
func libs(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(root, "bin", "openvino"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".complete")); errors.Is(err, fs.ErrNotExist) {
		need.Absent(t, "openvino", "there is no "+dir+" (make openvino)")
	}
	return dir
}

// open is a runtime of a test's. Unless it says otherwise its answers are exact.
func open(t testing.TB, opts Options) *Runtime {
	t.Helper()
	opts.Libraries = libs(t)
	r, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func exact(t testing.TB) *Runtime { return open(t, Options{Precision: "f32"}) }

func loaded(t testing.TB, r *Runtime, files map[string][]byte) inference.Model {
	t.Helper()
	m, err := r.Load(directory(t, files))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func fp32(name string, shape []int64, all ...float32) inference.Tensor {
	return inference.Tensor{Name: name, Type: inference.Float32, Shape: shape, Data: floats(all...)}
}

func TestName(t *testing.T) {
	if name := exact(t).Name(); name != "OpenVINO 2026.4.1" {
		t.Errorf("%q", name)
	}
}

// Each format loads, with the names and shapes that it has, and computes.
func TestFormats(t *testing.T) {
	r := exact(t)
	for name, tt := range map[string]struct {
		files map[string][]byte
		rows  int64
	}{"IR": {affineIR(), -1}, "ONNX": {affineONNX(), -1}, "TensorFlow Lite": {affineTFLite(), 1}} {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, r, tt.files)
			in := []inference.Port{{Name: "x", Type: inference.Float32, Shape: []int64{tt.rows, 4}}}
			out := []inference.Port{{Name: "y", Type: inference.Float32, Shape: []int64{tt.rows, 4}}}
			if fmt.Sprint(m.Inputs(), m.Outputs()) != fmt.Sprint(in, out) {
				t.Errorf("%v, %v", m.Inputs(), m.Outputs())
			}
			shape, given, want := []int64{1, 4}, []float32{0, 1, -2, 0.5}, []float32{1, 3, -3, 2}
			if tt.rows < 0 {
				shape, given, want = []int64{2, 4}, append(given, given...), append(want, want...)
			}
			got, err := m.Run(t.Context(), []inference.Tensor{fp32("x", shape, given...)}, []string{"y"})
			if err != nil || len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(fp32("y", shape, want...)) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// One request of a model may be longer or shorter than the one before, or empty.
func TestDynamicShapes(t *testing.T) {
	m := loaded(t, exact(t), affineIR())
	for _, rows := range []int{3, 1, 0, 100, 2} {
		given, want := make([]float32, 4*rows), make([]float32, 4*rows)
		for i := range given {
			given[i], want[i] = float32(i), float32(2*i+1)
		}
		shape := []int64{int64(rows), 4}
		got, err := m.Run(t.Context(), []inference.Tensor{fp32("x", shape, given...)}, []string{"y"})
		if err != nil || !slices.Equal(got[0].Shape, shape) || !bytes.Equal(got[0].Data, floats(want...)) {
			t.Errorf("%d rows: %v, %v", rows, got, err)
		}
	}
}

// Each type goes in and comes out as it is.
func TestTypes(t *testing.T) {
	r := exact(t)
	for _, e := range elementTypes {
		elem := strings.ToLower(e.name)
		t.Run(elem, func(t *testing.T) {
			dir := directory(t, same(elem))
			m, err := r.Load(dir)
			if e.served == 0 {
				if err == nil {
					m.Close()
					t.Fatal("it is served")
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			given := inference.Tensor{Name: "x", Type: e.served, Shape: []int64{4}, Data: bytes.Repeat(append([]byte{1}, make([]byte, e.served.Size()-1)...), 4)}
			if e.served == inference.Float32 || e.served == inference.Float64 || e.served == inference.BFloat16 || e.served == inference.Float16 {
				one := map[inference.Type][]byte{inference.Float32: floats(1), inference.Float64: {0, 0, 0, 0, 0, 0, 0xf0, 0x3f}, inference.BFloat16: {0x80, 0x3f}, inference.Float16: {0, 0x3c}}[e.served]
				given.Data = bytes.Repeat(one, 4)
			}
			got, err := m.Run(t.Context(), []inference.Tensor{given}, []string{m.Outputs()[0].Name})
			if err != nil || got[0].Type != given.Type || !bytes.Equal(got[0].Data, given.Data) || m.Inputs()[0].Type != e.served {
				t.Errorf("%v of %v: %v, %v", m.Inputs(), given, got, err)
			}
		})
	}
}

func TestOutputsWithoutNames(t *testing.T) {
	m := &ir{}
	x := m.parameter("x", "f32", 4)
	relu := m.layer("ReLU", "", "f32", []int64{4}, "", x)
	m.result(relu)
	m.result(m.layer("Sigmoid", "", "f32", []int64{4}, "named", x))
	m.result(relu) // and again
	model := loaded(t, exact(t), m.files())
	var names []string
	for _, p := range model.Outputs() {
		names = append(names, p.Name)
	}
	if want := []string{"out_0", "named", "out_2"}; !slices.Equal(names, want) {
		t.Fatalf("%q, want %q", names, want)
	}
	got, err := model.Run(t.Context(), []inference.Tensor{fp32("x", []int64{4}, -1, 0, 1, 2)}, []string{"out_2", "named"})
	if err != nil || len(got) != 2 || got[0].Name != "out_2" || !bytes.Equal(got[0].Data, floats(0, 0, 1, 2)) || got[1].Name != "named" {
		t.Errorf("%v, %v", got, err)
	}
}

// What is not as the model wants it is an error with OpenVINO's own words, or ours.
func TestWrongRequests(t *testing.T) {
	m := loaded(t, exact(t), affineIR())
	good := fp32("x", []int64{1, 4}, 1, 2, 3, 4)
	for name, tt := range map[string]struct {
		inputs  []inference.Tensor
		outputs []string
		fails   string
	}{
		"no input":           {nil, []string{"y"}, "has 1 inputs, and was given 0"},
		"no such output":     {[]inference.Tensor{good}, []string{"z"}, `no output "z"`},
		"another shape":      {[]inference.Tensor{fp32("x", []int64{1, 5}, 1, 2, 3, 4, 5)}, []string{"y"}, ""},
		"another rank":       {[]inference.Tensor{fp32("x", []int64{4}, 1, 2, 3, 4)}, []string{"y"}, ""},
		"less data":          {[]inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{2, 4}, Data: floats(1)}}, []string{"y"}, "takes 32"},
		"impossible shape":   {[]inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{math.MaxInt64 / 8, 4}, Data: floats(1)}}, []string{"y"}, ""},
		"negative dimension": {[]inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{-1, 4}, Data: floats(1)}}, []string{"y"}, ""},
	} {
		if got, err := m.Run(t.Context(), tt.inputs, tt.outputs); err == nil || !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, tt.fails)
		} else {
			t.Logf("%s: %v", name, err)
		}
		// The next is right all the same.
		if got, err := m.Run(t.Context(), []inference.Tensor{good}, []string{"y"}); err != nil || !bytes.Equal(got[0].Data, floats(3, 5, 7, 9)) {
			t.Errorf("after %s: %v, %v", name, got, err)
		}
	}
}

// What is damaged is an error, and never the end of the process.
func TestDamagedModels(t *testing.T) {
	r := exact(t)
	network := convolutional()
	xml, bin := network["model.xml"], network["model.bin"]
	onnx, tflite := affineONNX()["model.onnx"], affineTFLite()["model.tflite"]
	cases := map[string]map[string][]byte{
		"empty .xml":       {"model.xml": nil, "model.bin": bin},
		"no .bin":          {"model.xml": xml},
		"empty .bin":       {"model.xml": xml, "model.bin": nil},
		".bin without end": {"model.xml": xml, "model.bin": bin[:len(bin)-1]},
		"half a .bin":      {"model.xml": xml, "model.bin": bin[:len(bin)/2]},
		"another .xml":     {"model.xml": []byte("<html></html>"), "model.bin": bin},
		"garbage .xml":     {"model.xml": noise(4096), "model.bin": bin},
		"garbage .onnx":    {"model.onnx": noise(4096)},
		"empty .onnx":      {"model.onnx": nil},
		"garbage .tflite":  {"model.tflite": noise(4096)},
		"empty .tflite":    {"model.tflite": nil},
		"offset beyond":    {"model.xml": bytes.Replace(xml, []byte("offset=\"0\""), []byte("offset=\"999999999999\""), 1), "model.bin": bin},
		"huge size":        {"model.xml": bytes.Replace(xml, []byte("size=\"1728\""), []byte("size=\"18446744073709551615\""), 1), "model.bin": bin},
		"negative offset":  {"model.xml": bytes.Replace(xml, []byte("offset=\"0\""), []byte("offset=\"-64\""), 1), "model.bin": bin},
		"unknown layer":    {"model.xml": bytes.Replace(xml, []byte("SoftMax"), []byte("HardMax"), 1), "model.bin": bin},
		"edge to nowhere":  {"model.xml": bytes.Replace(xml, []byte("to-layer=\"2\""), []byte("to-layer=\"200\""), 1), "model.bin": bin},
		"any rank":         {"model.xml": bytes.Replace(same("f32")["model.xml"], []byte("shape=\"4\""), []byte("shape=\"...\""), 1)},
	}
	for i := 1; i < 8; i++ {
		cases[fmt.Sprintf(".xml cut at %d/8", i)] = map[string][]byte{"model.xml": xml[:len(xml)*i/8], "model.bin": bin}
		cases[fmt.Sprintf(".onnx cut at %d/8", i)] = map[string][]byte{"model.onnx": onnx[:len(onnx)*i/8]}
		cases[fmt.Sprintf(".tflite cut at %d/8", i)] = map[string][]byte{"model.tflite": tflite[:len(tflite)*i/8]}
	}
	for name, files := range cases {
		m, err := r.Load(directory(t, files))
		if err == nil {
			m.Close()
			t.Errorf("%s: it is loaded", name)
			continue
		}
		t.Logf("%s: %v", name, err)
	}
	// And then a whole one.
	loaded(t, r, network)
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// A model's text can name no file of the machine.
func TestEntitiesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secretname"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := affineIR()
	named := bytes.Replace(files["model.xml"], []byte("names=\"x\""), []byte("names=\"&a;\""), 1)
	named = bytes.Replace(named, []byte("<net"), fmt.Appendf(nil, "<!DOCTYPE net [<!ENTITY a SYSTEM \"file://%s\">]>\n<net", secret), 1)
	files["model.xml"] = named
	m, err := exact(t).Load(directory(t, files))
	if err != nil {
		return // as well
	}
	defer m.Close()
	if strings.Contains(m.Inputs()[0].Name, "secretname") {
		t.Errorf("%q", m.Inputs()[0].Name)
	}
}

// A thread's stack for signals is Go's before and after.
func TestSignalStackStays(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stack := func() (s [3]uint64) {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SIGALTSTACK, 0, uintptr(unsafe.Pointer(&s)), 0); errno != 0 {
			t.Fatal(errno)
		}
		return s
	}
	before := stack()
	r, err := Open(Options{Libraries: libs(t)})
	if err != nil {
		t.Fatal(err)
	}
	if after := stack(); after != before {
		t.Errorf("opened: %x, before %x", after, before)
	}
	m, err := r.Load(directory(t, convolutional()))
	if err != nil {
		t.Fatal(err)
	}
	if after := stack(); after != before {
		t.Errorf("loaded: %x, before %x", after, before)
	}
	m.Close()
	r.Close()
	if after := stack(); after != before {
		t.Errorf("closed: %x, before %x", after, before)
	}
}

func TestNoModel(t *testing.T) {
	r := exact(t)
	if _, err := r.Load(directory(t, map[string][]byte{"saved_model.pb": nil})); !errors.Is(err, inference.ErrUnknownModel) || !strings.Contains(err.Error(), "saved_model.pb") {
		t.Error(err)
	}
	if _, err := r.Load(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// images are inputs of the convolutional network.
func images(n int64, seed uint64) inference.Tensor {
	r := rand.New(rand.NewPCG(seed, seed))
	all := make([]float32, n*3*32*32)
	for i := range all {
		all[i] = float32(r.NormFloat64())
	}
	return fp32("image", []int64{n, 3, 32, 32}, all...)
}

// The answers are the vendor's own, bit for bit, in each precision and of each format.
func TestAnswersAreTheVendorsOwn(t *testing.T) {
	python := vendorPython(t)
	onnx := fp32("x", []int64{2, 4}, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
	tflite := fp32("x", []int64{1, 4}, 0.1, 0.2, 0.3, 0.4)
	for name, tt := range map[string]struct {
		files      map[string][]byte
		file       string
		opts       Options
		properties map[string]string
		input      inference.Tensor
	}{
		"network":               {convolutional(), "model.xml", Options{}, nil, images(5, 7)},
		"network in f32":        {convolutional(), "model.xml", Options{Precision: "f32"}, map[string]string{"INFERENCE_PRECISION_HINT": "f32"}, images(3, 8)},
		"network on one thread": {convolutional(), "model.xml", Options{Threads: 1}, map[string]string{"INFERENCE_NUM_THREADS": "1"}, images(1, 9)},
		"ONNX":                  {affineONNX(), "model.onnx", Options{}, nil, onnx},
		"TensorFlow Lite":       {affineTFLite(), "model.tflite", Options{}, nil, tflite},
	} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t, tt.files)
			r := open(t, tt.opts)
			m, err := r.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			want := reference(t, python, filepath.Join(dir, tt.file), tt.properties, tt.input)
			var names []string
			for _, w := range want {
				names = append(names, w.Name)
			}
			var ports []string
			for _, p := range m.Outputs() {
				ports = append(ports, p.Name)
			}
			if !slices.Equal(names, ports) {
				t.Fatalf("outputs %q, the vendor's are %q", ports, names)
			}
			got, err := m.Run(t.Context(), []inference.Tensor{tt.input}, names)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if !slices.Equal(got[i].Shape, want[i].Shape) || !bytes.Equal(got[i].Data, want[i].Data) || len(got[i].Data) == 0 {
					t.Errorf("output %q is not the vendor's", names[i])
				}
			}
		})
	}
}

// vendorPython is a Python that has OpenVINO's own interface.
func vendorPython(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", "openvino-python", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		need.Absent(t, "openvino", "there is no "+path+" (make openvino-python)")
	}
	return path
}

type output struct {
	Name  string
	Shape []int64
	Data  []byte
}

func reference(t testing.TB, python, model string, properties map[string]string, input inference.Tensor) []output {
	t.Helper()
	type tensor struct {
		Name  string  `json:"name"`
		DType string  `json:"dtype"`
		Shape []int64 `json:"shape"`
		Data  []byte  `json:"data"`
	}
	request, err := json.Marshal(map[string]any{"model": model, "properties": properties, "inputs": []tensor{{input.Name, "<f4", input.Shape, input.Data}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/reference.py")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the vendor's own: %v", err)
	}
	var answer struct {
		Version string
		Outputs []output
	}
	if err := json.Unmarshal(out, &answer); err != nil || !strings.HasPrefix(answer.Version, "2026.4.1-") {
		t.Fatalf("the vendor's own: %v, %s", err, out)
	}
	return answer.Outputs
}

// Requests at the same time get each its own answer, whether they share a stream or not.
func TestConcurrentRuns(t *testing.T) {
	for _, streams := range []int{0, 2} {
		r := open(t, Options{Precision: "f32", Streams: streams})
		m := loaded(t, r, convolutional())
		if n := cap(m.(*model).requests); n != max(1, min(streams, runtime.NumCPU())) {
			t.Errorf("%d requests at a time with %d streams", n, streams)
		}
		const clients, each = 8, 20
		var want [clients][]byte
		run := func(i int) []byte {
			got, err := m.Run(t.Context(), []inference.Tensor{images(int64(i%3+1), uint64(i))}, []string{"probabilities"})
			if err != nil {
				t.Error(err)
				return nil
			}
			return got[0].Data
		}
		for i := range want {
			want[i] = run(i)
		}
		var group sync.WaitGroup
		for i := range clients {
			group.Go(func() {
				for range each {
					if !bytes.Equal(run(i), want[i]) {
						t.Errorf("client %d has another answer", i)
						return
					}
				}
			})
		}
		group.Wait()
	}
}

// Models may be loaded while others run.
func TestLoadWhileRunning(t *testing.T) {
	r := exact(t)
	m := loaded(t, r, affineIR())
	dir := directory(t, convolutional())
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 3 {
				other, err := r.Load(dir)
				if err != nil {
					t.Error(err)
					return
				}
				other.Close()
			}
		})
		group.Go(func() {
			for range 200 {
				if got, err := m.Run(t.Context(), []inference.Tensor{fp32("x", []int64{1, 4}, 1, 2, 3, 4)}, []string{"y"}); err != nil || !bytes.Equal(got[0].Data, floats(3, 5, 7, 9)) {
					t.Errorf("%v, %v", got, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// A request that nobody waits for any more ends, and the next is served.
func TestCancel(t *testing.T) {
	r := exact(t)
	m := loaded(t, r, heavy())
	input := []inference.Tensor{fp32("x", []int64{512, 512}, make([]float32, 512*512)...)}
	name := m.Outputs()[0].Name
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if _, err := m.Run(over, input, []string{name}); err == nil || err.Error() != "gone" {
		t.Errorf("over before it began: %v", err)
	}
	short, stop := context.WithTimeout(t.Context(), time.Millisecond) // of a second or more
	defer stop()
	if _, err := m.Run(short, input, []string{name}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("over while it ran: %v", err)
	}
	if _, err := m.Run(t.Context(), input, []string{name}); err != nil {
		t.Errorf("the next: %v", err)
	}
}
