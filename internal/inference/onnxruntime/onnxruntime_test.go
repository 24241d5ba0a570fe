package onnxruntime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/onnxtest"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// library is ONNX Runtime's, as `make test-deps` fetches it.
const library = "bin/onnxruntime/libonnxruntime.so.1.21.1"

// open opens the library for one test: a process has it once.
func open(t testing.TB) *Runtime {
	t.Helper()
	path := filepath.Join("../../..", library)
	if _, err := os.Stat(path); err != nil {
		need.Absent(t, library, "there is no "+library)
	}
	r, err := Open(Options{Library: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// examples is a directory of models that nobody here has made.
func examples(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	if err := (run.Cmd{Path: "go", Args: []string{"list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go"}, Stdout: &out}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(out.String()), "test_data")
}

// directory is a version's, with these files.
func directory(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// numbers are the data of a tensor.
func numbers[T any](t testing.TB, values ...T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, values); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExamples(t *testing.T) {
	r := open(t)
	if r.Name() != "onnxruntime 1.21.1" {
		t.Errorf("the library is %q", r.Name())
	}
	dir := examples(t)
	var tens []float32
	for i := range 20 {
		tens = append(tens, float32(i))
	}
	for _, c := range []struct {
		file    string
		inputs  []inference.Tensor
		outputs []string
		want    []inference.Tensor
	}{
		{
			file:    "example_dynamic_axes.onnx",
			inputs:  []inference.Tensor{{Name: "input_vectors", Type: inference.Float32, Shape: []int64{2, 10}, Data: numbers(t, tens...)}},
			outputs: []string{"output_scalars"},
			want:    []inference.Tensor{{Name: "output_scalars", Type: inference.Float32, Shape: []int64{2}, Data: numbers(t, float32(45), 145)}},
		}, {
			file: "example_multitype.onnx",
			inputs: []inference.Tensor{
				{Name: "InputA", Type: inference.Uint8, Shape: []int64{1, 1, 1}, Data: []byte{7}},
				{Name: "InputB", Type: inference.Float64, Shape: []int64{1, 2, 2}, Data: numbers(t, 1.0, 2, 100, -100)},
			},
			outputs: []string{"OutputB", "OutputA"}, // another order
			want: []inference.Tensor{
				{Name: "OutputB", Type: inference.Int64, Shape: []int64{1, 1, 1}, Data: numbers(t, int64(8638))},
				{Name: "OutputA", Type: inference.Int16, Shape: []int64{1, 2, 2}, Data: numbers(t, int16(-505), -498, 188, -1212)},
			},
		}, {
			file:    "example_float16.onnx", // 0, 1, 2, -1, ... in float16; its outputs are bfloat16
			inputs:  []inference.Tensor{{Name: "InputA", Type: inference.Float16, Shape: []int64{1, 2, 2, 2}, Data: numbers(t, uint16(0), 0x3c00, 0x4000, 0xbc00, 0, 0, 0, 0x3c00)}},
			outputs: []string{"OutputA"},
			want:    []inference.Tensor{{Name: "OutputA", Type: inference.BFloat16, Shape: []int64{1, 2, 2, 2}, Data: numbers(t, uint16(0), 0x4040, 0x40c0, 0xc040, 0, 0, 0, 0x4040)}},
		},
	} {
		data, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Load(directory(t, map[string][]byte{"model.onnx": data}))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		got, err := m.Run(t.Context(), c.inputs, c.outputs)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s gave %v (%v), want %v", c.file, got, err, c.want)
		}
		m.Close()
	}
}

// What a file says of a model is what the library says of it.
func TestSignature(t *testing.T) {
	open(t)
	files, err := filepath.Glob(filepath.Join(examples(t), "*.onnx"))
	if err != nil || len(files) < 5 {
		t.Fatalf("there are %d models (%v)", len(files), err)
	}
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		inputs, outputs, complete, err := signature(file)
		file.Close()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if strings.Contains(path, "sklearn") { // which has a list of maps for an output
			if complete {
				t.Errorf("%s: what is no tensor is said to be known", path)
			}
			continue
		}
		wantIn, wantOut, err := ort.GetInputOutputInfo(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(inputs, outputs), fmt.Sprint(ports(wantIn), ports(wantOut)); got != want || !complete {
			t.Errorf("%s: %s (complete: %v), want %s", path, got, complete, want)
		}
	}
}

func TestAffine(t *testing.T) {
	r := open(t)
	m, err := r.Load(directory(t, map[string][]byte{"any.onnx": onnxtest.Affine([]float32{1, 2, 3, 10, 20, 30}, []float32{0.5, 0, -1}), "labels.txt": nil}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, want := fmt.Sprint(m.Inputs(), m.Outputs()), "[{x FP32 [-1 2]}] [{y FP32 [-1 3]}]"; got != want {
		t.Errorf("it has %s, want %s", got, want)
	}
	// At the same time, and with data at any address.
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			data := append(make([]byte, i%4), numbers(t, float32(i), 1)...)[i%4:]
			got, err := m.Run(context.Background(), []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{1, 2}, Data: data}}, []string{"y"})
			want := numbers(t, float32(i)+10.5, float32(2*i)+20, float32(3*i)+29)
			if err != nil || !bytes.Equal(got[0].Data, want) {
				t.Errorf("%d: %v (%v)", i, got, err)
			}
		})
	}
	all.Wait()
}

func TestWrongModels(t *testing.T) {
	r := open(t)
	forest, err := os.ReadFile(filepath.Join(examples(t), "sklearn_randomforest.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	good := onnxtest.Affine([]float32{1, 2, 3, 10, 20, 30}, []float32{0.5, 0, -1})
	for name, files := range map[string]map[string][]byte{
		"none":              {"model.xml": good},
		"two":               {"a.onnx": good, "b.onnx": good},
		"empty":             {"model.onnx": nil},
		"text":              {"model.onnx": []byte("once upon a time there was a model")},
		"no tensors":        {"model.onnx": forest},
		"another's weights": {"model.onnx": bytes.Replace(good, []byte("xw"), []byte("zz"), 1)},
	} {
		if m, err := r.Load(directory(t, files)); err == nil {
			t.Errorf("%s: it was loaded: %v", name, m.Inputs())
		} else if name != "another's weights" && !errors.Is(err, inference.ErrUnknownModel) {
			t.Errorf("%s: %v is not ErrUnknownModel", name, err)
		}
	}
	for cut := range len(good) - 1 {
		if m, err := r.Load(directory(t, map[string][]byte{"model.onnx": good[:cut]})); err == nil && cut < len(good)-4 { // the last field is the operators' version
			t.Errorf("cut at %d of %d it was loaded: %v", cut, len(good), m.Inputs())
		}
	}
	// One of several may be the model.
	if _, err := r.Load(directory(t, map[string][]byte{"model.onnx": good, "other.onnx": nil})); err != nil {
		t.Error(err)
	}
}

func TestWrongRequests(t *testing.T) {
	r := open(t)
	m, err := r.Load(directory(t, map[string][]byte{"model.onnx": onnxtest.Affine([]float32{1, 2}, []float32{0})}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Run(t.Context(), []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{0, 2}}}, []string{"y"}); !errors.Is(err, inference.ErrInvalid) {
		t.Errorf("of no rows: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Run(over, []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{1, 2}, Data: numbers(t, float32(1), 2)}}, []string{"y"}); !errors.Is(err, context.Canceled) {
		t.Errorf("for nobody: %v", err)
	}
}

func TestNoLibrary(t *testing.T) {
	if _, err := Open(Options{Library: "/nowhere/libonnxruntime.so"}); err == nil || !strings.Contains(err.Error(), "/nowhere/libonnxruntime.so") {
		t.Errorf("without a library: %v", err)
	}
}

func FuzzSignature(f *testing.F) {
	f.Add(onnxtest.Affine([]float32{1, 2}, []float32{math.Pi}))
	f.Fuzz(func(t *testing.T, data []byte) {
		inputs, outputs, complete, err := signature(bytes.NewReader(data))
		for _, p := range append(slices.Clone(inputs), outputs...) {
			if err == nil && complete && (p.Name == "" || p.Type == 0) {
				t.Errorf("%+v is not complete", p)
			}
		}
	})
}

// What is said before and after is heard, and what is said while a library is loaded is
// not.
func TestQuietly(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	kept, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Dup2(kept, 2)
	if err := unix.Dup2(int(file.Fd()), 2); err != nil {
		t.Fatal(err)
	}
	why := errors.New("why")
	fmt.Fprint(os.Stderr, "before ")
	failed := quietly(func() error { fmt.Fprint(os.Stderr, "meanwhile "); return why })
	fmt.Fprint(os.Stderr, "after")
	said, err := os.ReadFile(file.Name())
	if err != nil || string(said) != "before after" || !errors.Is(failed, why) {
		t.Errorf("it said %q, %v (%v)", said, failed, err)
	}
}

// What cannot be given over a network, or by the library for Go, is refused.
func TestServes(t *testing.T) {
	for name, p := range map[string]inference.Port{
		"no tensor":     {Name: "x", Shape: []int64{1}},
		"texts":         {Name: "x", Type: inference.Bytes, Shape: []int64{1}},
		"no dimensions": {Name: "x", Type: inference.Float32},
	} {
		if err := serves(p); !errors.Is(err, inference.ErrUnknownModel) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := serves(inference.Port{Name: "x", Type: inference.Float32, Shape: []int64{-1}}); err != nil {
		t.Error(err)
	}
}

// A file that is cut is not read as one with less in it.
func TestCutSignature(t *testing.T) {
	good := onnxtest.Affine([]float32{1, 2, 3, 10, 20, 30}, []float32{0.5, 0, -1})
	graph := bytes.Index(good, []byte("onnxtest")) + len("onnxtest")
	for cut := graph + 1; cut < len(good)-4; cut++ { // behind the graph is the operators' version
		if in, out, _, err := signature(bytes.NewReader(good[:cut])); err == nil {
			t.Errorf("cut at %d of %d: %v, %v", cut, len(good), in, out)
		}
	}
	for name, data := range map[string][]byte{
		"field 0":                 append([]byte{0x00, 0x01}, good...),
		"a group":                 {0x3b},
		"a number without an end": {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"fixed64 cut":             append(bytes.Clone(good), 0x09, 1, 2),
		"a port that is cut":      {0x3a, 0x04, 0x5a, 0x02, 0x0a, 0x05},
		"a port of nonsense":      {0x3a, 0x03, 0x5a, 0x01, 0xff},
	} {
		if in, out, _, err := signature(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: %v, %v", name, in, out)
		}
	}
}
