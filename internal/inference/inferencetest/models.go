// Package inferencetest has models that compute something, in Go, for tests of the
// protocols, and runs clients that nobody here wrote against them.
package inferencetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// Types are all that there are.
var Types = []inference.Type{
	inference.Bool, inference.Uint8, inference.Uint16, inference.Uint32, inference.Uint64,
	inference.Int8, inference.Int16, inference.Int32, inference.Int64,
	inference.Float16, inference.BFloat16, inference.Float32, inference.Float64, inference.Bytes,
}

// Healthy are models of which all have a version that is available.
//
//	affine    x FP32 [-1 4] -> y FP32 [-1 3]: version times x*W, and B; version 3 is broken
//	two       a, b FP32 [-1 2] -> sum, product
//	texts     text BYTES [-1] -> upper BYTES, length INT32, text_bytes BYTES
//	mean      image FP32 [-1 3 224 224] -> mean FP32 [-1]
//	total     x FP32 [-1] -> total FP32 []
//	short     x FP32 [-1] -> y BF16 [-1], cut
//	failing   x FP32 [-1] -> y FP32 [-1], and always fails
//	wrong     x FP32 [-1] -> y FP32 [-1], with less data than its shape says
//	panicking x FP32 [-1] -> y FP32 [-1], and has a defect
//	echo_TYPE x TYPE [-1 -1] -> y TYPE [-1 -1]
func Healthy() []string {
	all := []string{"affine", "two", "texts", "mean", "total", "short", "failing", "wrong", "panicking"}
	for _, t := range Types {
		all = append(all, "echo_"+strings.ToLower(t.String()))
	}
	return all
}

// Broken is a model of which no version is available.
const Broken = "broken"

// W and B are those of the model affine.
var (
	W = [4][3]float32{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12.5}}
	B = [3]float32{0.5, -0.25, 100}
)

// Open has models served, by their names.
func Open(t testing.TB, names ...string) *inference.Repository {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		versions := []string{"1"}
		if name == "affine" {
			versions = []string{"1", "2", "3"}
		}
		for _, v := range versions {
			if err := os.MkdirAll(filepath.Join(dir, name, v), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	repo, err := inference.Open(dir, library{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(repo.Close)
	return repo
}

// library has the models, by the names of their directories.
type library struct{}

func (library) Name() string { return "Reference 1.0" }

func (library) Load(dir string) (inference.Model, error) {
	number, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	fp32 := func(name string, shape ...int64) inference.Port {
		return inference.Port{Name: name, Type: inference.Float32, Shape: shape}
	}
	name := filepath.Base(filepath.Dir(dir))
	switch name {
	case "affine":
		if number == 3 {
			return nil, errors.New("weights.bin is cut")
		}
		return &model{in: []inference.Port{fp32("x", -1, 4)}, out: []inference.Port{fp32("y", -1, 3)}, run: affine(float32(number))}, nil
	case "two":
		return &model{in: []inference.Port{fp32("a", -1, 2), fp32("b", -1, 2)}, out: []inference.Port{fp32("sum", -1, 2), fp32("product", -1, 2)}, run: two}, nil
	case "texts":
		return &model{
			in: []inference.Port{{Name: "text", Type: inference.Bytes, Shape: []int64{-1}}},
			out: []inference.Port{
				{Name: "upper", Type: inference.Bytes, Shape: []int64{-1}}, {Name: "length", Type: inference.Int32, Shape: []int64{-1}},
				{Name: "text_bytes", Type: inference.Bytes, Shape: []int64{-1}},
			},
			run: texts,
		}, nil
	case "mean":
		return &model{in: []inference.Port{fp32("image", -1, 3, 224, 224)}, out: []inference.Port{fp32("mean", -1)}, run: mean}, nil
	case "total":
		return &model{in: []inference.Port{fp32("x", -1)}, out: []inference.Port{fp32("total")}, run: total}, nil
	case "short":
		return &model{in: []inference.Port{fp32("x", -1)}, out: []inference.Port{{Name: "y", Type: inference.BFloat16, Shape: []int64{-1}}}, run: short}, nil
	case "failing":
		return &model{in: []inference.Port{fp32("x", -1)}, out: []inference.Port{fp32("y", -1)}, run: func([]inference.Tensor) ([]inference.Tensor, error) {
			return nil, errors.New("a layer has no memory")
		}}, nil
	case "panicking":
		return &model{in: []inference.Port{fp32("x", -1)}, out: []inference.Port{fp32("y", -1)}, run: func([]inference.Tensor) ([]inference.Tensor, error) {
			panic("a defect")
		}}, nil
	case "wrong":
		return &model{in: []inference.Port{fp32("x", -1)}, out: []inference.Port{fp32("y", -1)}, run: func([]inference.Tensor) ([]inference.Tensor, error) {
			return []inference.Tensor{{Shape: []int64{2}, Data: Data(1)}}, nil
		}}, nil
	}
	for _, t := range Types {
		if name == "echo_"+strings.ToLower(t.String()) {
			port := func(name string) []inference.Port {
				return []inference.Port{{Name: name, Type: t, Shape: []int64{-1, -1}}}
			}
			return &model{in: port("x"), out: port("y"), run: func(in []inference.Tensor) ([]inference.Tensor, error) {
				return []inference.Tensor{{Shape: in[0].Shape, Data: bytes.Clone(in[0].Data)}}, nil
			}}, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", inference.ErrUnknownModel, name)
}

type model struct {
	in, out []inference.Port
	run     func([]inference.Tensor) ([]inference.Tensor, error) // all outputs, without name and type
}

func (m *model) Inputs() []inference.Port  { return m.in }
func (m *model) Outputs() []inference.Port { return m.out }
func (m *model) Close()                    {}

func (m *model) Run(_ context.Context, inputs []inference.Tensor, outputs []string) ([]inference.Tensor, error) {
	all, err := m.run(inputs)
	if err != nil {
		return nil, err
	}
	var wanted []inference.Tensor
	for _, name := range outputs {
		at := slices.IndexFunc(m.out, func(p inference.Port) bool { return p.Name == name })
		t := all[at]
		t.Name, t.Type = name, m.out[at].Type
		wanted = append(wanted, t)
	}
	return wanted, nil
}

// Floats are a tensor's elements.
func Floats(data []byte) []float32 {
	all := make([]float32, len(data)/4)
	for i := range all {
		all[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return all
}

// Data is a tensor's, of elements.
func Data(floats ...float32) []byte {
	var data []byte
	for _, f := range floats {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f))
	}
	return data
}

func affine(scale float32) func([]inference.Tensor) ([]inference.Tensor, error) {
	return func(in []inference.Tensor) ([]inference.Tensor, error) {
		var y []float32
		for x := range slices.Chunk(Floats(in[0].Data), 4) {
			for column := range B {
				sum := float32(0)
				for row := range W {
					sum += x[row] * W[row][column]
				}
				y = append(y, scale*sum+B[column])
			}
		}
		return []inference.Tensor{{Shape: []int64{in[0].Shape[0], 3}, Data: Data(y...)}}, nil
	}
}

func two(in []inference.Tensor) ([]inference.Tensor, error) {
	if in[0].Shape[0] != in[1].Shape[0] {
		return nil, fmt.Errorf("%w: a has %d rows, and b %d", inference.ErrInvalid, in[0].Shape[0], in[1].Shape[0])
	}
	a, b := Floats(in[0].Data), Floats(in[1].Data)
	sum, product := make([]float32, len(a)), make([]float32, len(a))
	for i := range a {
		sum[i], product[i] = a[i]+b[i], a[i]*b[i]
	}
	return []inference.Tensor{{Shape: in[0].Shape, Data: Data(sum...)}, {Shape: in[0].Shape, Data: Data(product...)}}, nil
}

func texts(in []inference.Tensor) ([]inference.Tensor, error) {
	all, err := inference.Texts(in[0].Data, in[0].Shape[0])
	if err != nil {
		return nil, err
	}
	var upper, lengths []byte
	for _, text := range all {
		upper = inference.AppendText(upper, bytes.ToUpper(text))
		lengths = binary.LittleEndian.AppendUint32(lengths, uint32(len(text)))
	}
	shape := in[0].Shape
	return []inference.Tensor{{Shape: shape, Data: upper}, {Shape: shape, Data: lengths}, {Shape: shape, Data: bytes.Clone(in[0].Data)}}, nil
}

func mean(in []inference.Tensor) ([]inference.Tensor, error) {
	const size = 3 * 224 * 224
	var means []float32
	for image := range slices.Chunk(in[0].Data, 4*size) {
		sum := float32(0)
		for i := range size {
			sum += math.Float32frombits(binary.LittleEndian.Uint32(image[4*i:]))
		}
		means = append(means, sum/size)
	}
	return []inference.Tensor{{Shape: in[0].Shape[:1], Data: Data(means...)}}, nil
}

func total(in []inference.Tensor) ([]inference.Tensor, error) {
	sum := float32(0)
	for _, f := range Floats(in[0].Data) {
		sum += f
	}
	return []inference.Tensor{{Data: Data(sum)}}, nil
}

func short(in []inference.Tensor) ([]inference.Tensor, error) {
	var y []byte
	for x := range slices.Chunk(in[0].Data, 4) {
		y = append(y, x[2:]...)
	}
	return []inference.Tensor{{Shape: in[0].Shape, Data: y}}, nil
}
