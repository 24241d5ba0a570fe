package openvino

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Models are made here, byte by byte: no tool is needed, and each is what its test says.

// directory is a version's directory with these files.
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

// ir writes OpenVINO's own format: an .xml of layers and edges, and a .bin of constants.
type ir struct {
	layers, edges strings.Builder
	bin           bytes.Buffer
	n             int
	made          []made
}

type made struct {
	port  int // the number of its output
	shape []int64
	elem  string
}

// files are the model's.
func (m *ir) files() map[string][]byte {
	xml := fmt.Sprintf("<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">\n<layers>\n%s</layers>\n<edges>\n%s</edges>\n</net>\n", &m.layers, &m.edges)
	return map[string][]byte{"model.xml": []byte(xml), "model.bin": m.bin.Bytes()}
}

// layer adds a layer whose output has this type and shape, and these tensor names.
func (m *ir) layer(kind, attributes, elem string, shape []int64, names string, from ...int) int {
	id := m.n
	m.n++
	fmt.Fprintf(&m.layers, "<layer id=\"%d\" name=\"%s_%d\" type=\"%s\" version=\"opset1\">\n<data %s/>\n", id, strings.ToLower(kind), id, kind, attributes)
	if len(from) > 0 {
		m.layers.WriteString("<input>\n")
		for port, f := range from {
			in := m.made[f]
			fmt.Fprintf(&m.layers, "<port id=\"%d\" precision=\"%s\">%s</port>\n", port, precision(in.elem), dims(in.shape))
			fmt.Fprintf(&m.edges, "<edge from-layer=\"%d\" from-port=\"%d\" to-layer=\"%d\" to-port=\"%d\"/>\n", f, in.port, id, port)
		}
		m.layers.WriteString("</input>\n")
	}
	if kind != "Result" {
		attr := ""
		if names != "" {
			attr = fmt.Sprintf(" names=\"%s\"", names)
		}
		fmt.Fprintf(&m.layers, "<output>\n<port id=\"%d\" precision=\"%s\"%s>%s</port>\n</output>\n", len(from), precision(elem), attr, dims(shape))
	}
	m.layers.WriteString("</layer>\n")
	m.made = append(m.made, made{port: len(from), shape: shape, elem: elem})
	return id
}

func (m *ir) parameter(name, elem string, shape ...int64) int {
	text := strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", ",")
	return m.layer("Parameter", fmt.Sprintf("shape=\"%s\" element_type=\"%s\"", strings.ReplaceAll(text, "-1", "?"), elem), elem, shape, name)
}

func (m *ir) constant(elem string, shape []int64, data []byte) int {
	for m.bin.Len()%64 != 0 {
		m.bin.WriteByte(0)
	}
	at := m.bin.Len()
	m.bin.Write(data)
	text := strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", ", ")
	return m.layer("Const", fmt.Sprintf("element_type=\"%s\" shape=\"%s\" offset=\"%d\" size=\"%d\"", elem, text, at, len(data)), elem, shape, "")
}

func (m *ir) result(from int) { m.layer("Result", "", m.made[from].elem, nil, "", from) }

func dims(shape []int64) string {
	var b strings.Builder
	for _, d := range shape {
		fmt.Fprintf(&b, "<dim>%d</dim>", d)
	}
	return b.String()
}

func precision(elem string) string {
	return map[string]string{"f32": "FP32", "f16": "FP16", "f64": "FP64", "boolean": "BOOL"}[elem] + map[bool]string{true: strings.ToUpper(elem)}[!slices.Contains([]string{"f32", "f16", "f64", "boolean"}, elem)]
}

// affineIR is y = 2x + 1 of any number of rows of four.
func affineIR() map[string][]byte {
	m := &ir{}
	x := m.parameter("x", "f32", -1, 4)
	y := m.layer("Multiply", "auto_broadcast=\"numpy\"", "f32", []int64{-1, 4}, "", x, m.constant("f32", []int64{1, 4}, floats(2, 2, 2, 2)))
	y = m.layer("Add", "auto_broadcast=\"numpy\"", "f32", []int64{-1, 4}, "y", y, m.constant("f32", []int64{1, 4}, floats(1, 1, 1, 1)))
	m.result(y)
	return m.files()
}

// same gives back what it is given, of a type.
func same(elem string) map[string][]byte {
	m := &ir{}
	m.result(m.parameter("x", elem, 4))
	return m.files()
}

// convolutional is a small network with random weights: convolution, ReLU, and softmax
// over what is left, of any number of images.
func convolutional() map[string][]byte {
	m := &ir{}
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		all := make([]float32, n)
		for i := range all {
			all[i] = float32(r.NormFloat64()) * 0.3
		}
		return floats(all...)
	}
	n := m.parameter("image", "f32", -1, 3, 32, 32)
	for _, c := range []struct{ in, out, size int64 }{{3, 16, 15}, {16, 32, 7}} {
		weights := m.constant("f32", []int64{c.out, c.in, 3, 3}, random(int(c.out*c.in*9)))
		n = m.layer("Convolution", "strides=\"2, 2\" dilations=\"1, 1\" pads_begin=\"0, 0\" pads_end=\"0, 0\" auto_pad=\"explicit\"", "f32", []int64{-1, c.out, c.size, c.size}, "", n, weights)
		n = m.layer("ReLU", "", "f32", []int64{-1, c.out, c.size, c.size}, "", n)
	}
	axes := m.constant("i64", []int64{2}, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 2), 3))
	n = m.layer("ReduceMean", "keep_dims=\"false\"", "f32", []int64{-1, 32}, "features", n, axes)
	m.result(n)
	w := m.constant("f32", []int64{32, 10}, random(320))
	n = m.layer("MatMul", "transpose_a=\"false\" transpose_b=\"false\"", "f32", []int64{-1, 10}, "", n, w)
	n = m.layer("SoftMax", "axis=\"1\"", "f32", []int64{-1, 10}, "probabilities", n)
	m.result(n)
	return m.files()
}

// heavy is a chain of so many products that it takes long on any machine.
func heavy() map[string][]byte {
	m := &ir{}
	const side, layers = 512, 400
	n := m.parameter("x", "f32", side, side)
	w := make([]float32, side*side)
	for i := range w {
		w[i] = 1 / float32(side+i%7)
	}
	c := m.constant("f32", []int64{side, side}, floats(w...))
	for range layers {
		n = m.layer("MatMul", "transpose_a=\"false\" transpose_b=\"false\"", "f32", []int64{side, side}, "", n, c)
	}
	m.result(n)
	return m.files()
}

// affineONNX is affineIR as ONNX (https://github.com/onnx/onnx, onnx.proto).
func affineONNX() map[string][]byte {
	varint := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	bytes := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	node := func(op, a, b, out string) (n []byte) {
		n = bytes(bytes(n, 1, []byte(a)), 1, []byte(b))
		return bytes(bytes(n, 2, []byte(out)), 4, []byte(op))
	}
	constant := func(name string, data []byte) (c []byte) {
		c = varint(varint(c, 1, 4), 2, 1)
		return bytes(bytes(c, 8, []byte(name)), 9, data)
	}
	value := func(name string) []byte {
		shape := bytes(bytes(nil, 1, bytes(nil, 2, []byte("rows"))), 1, varint(nil, 1, 4))
		tensor := bytes(varint(nil, 1, 1), 2, shape)
		return bytes(bytes(nil, 1, []byte(name)), 2, bytes(nil, 1, tensor))
	}
	graph := bytes(bytes(nil, 1, node("Mul", "x", "two", "double")), 1, node("Add", "double", "one", "y"))
	graph = bytes(graph, 2, []byte("affine"))
	graph = bytes(bytes(graph, 5, constant("two", floats(2, 2, 2, 2))), 5, constant("one", floats(1, 1, 1, 1)))
	graph = bytes(bytes(graph, 11, value("x")), 12, value("y"))
	model := bytes(bytes(varint(nil, 1, 8), 7, graph), 8, varint(nil, 2, 13))
	return map[string][]byte{"model.onnx": model}
}

// affineTFLite is affineIR of one row as TensorFlow Lite (its schema.fbs).
func affineTFLite() map[string][]byte {
	tensor := func(name string, buffer uint32) flat {
		return flat{0: []int32{1, 4}, 1: uint8(0), 2: buffer, 3: name}
	}
	operator := func(code uint32, in []int32, out int32, options uint8) flat {
		return flat{0: code, 1: in, 2: []int32{out}, 3: options, 4: flat{}}
	}
	code := func(op uint8) flat { return flat{0: op, 2: int32(1), 3: int32(op)} }
	const add, mul, addOptions, mulOptions = 0, 18, 11, 21
	model := flat{
		0: uint32(3),
		1: []flat{code(mul), code(add)},
		2: []flat{{
			0: []flat{tensor("x", 0), tensor("two", 1), tensor("double", 0), tensor("one", 2), tensor("y", 0)},
			1: []int32{0},
			2: []int32{4},
			3: []flat{operator(0, []int32{0, 1}, 2, mulOptions), operator(1, []int32{2, 3}, 4, addOptions)},
			4: "affine",
		}},
		3: "affine",
		4: []flat{{}, {0: floats(2, 2, 2, 2)}, {0: floats(1, 1, 1, 1)}},
	}
	w := &flatWriter{b: append(make([]byte, 4), "TFL3"...)}
	w.refer(0, model)
	return map[string][]byte{"model.tflite": w.b}
}

// flat is a table of FlatBuffers (https://flatbuffers.dev/internals): its fields by number.
type flat map[int]any

// flatWriter writes what is referred to behind what refers to it.
type flatWriter struct{ b []byte }

func (w *flatWriter) align(n int) {
	for len(w.b)%n != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *flatWriter) u32(v int) { w.b = binary.LittleEndian.AppendUint32(w.b, uint32(v)) }

// refer writes a value and, at a place before it, how far away it is.
func (w *flatWriter) refer(from int, value any) {
	w.align(16)
	var at int
	switch v := value.(type) {
	case flat:
		at = w.table(v)
	case string:
		at = len(w.b)
		w.u32(len(v))
		w.b = append(append(w.b, v...), 0)
	case []byte:
		w.b = append(w.b, make([]byte, 12)...) // its elements are aligned to 16
		at = len(w.b)
		w.u32(len(v))
		w.b = append(w.b, v...)
	case []int32:
		at = len(w.b)
		w.u32(len(v))
		for _, n := range v {
			w.u32(int(n))
		}
	case []flat:
		at = len(w.b)
		w.u32(len(v))
		w.b = append(w.b, make([]byte, 4*len(v))...)
		for i, t := range v {
			w.refer(at+4+4*i, t)
		}
	}
	binary.LittleEndian.PutUint32(w.b[from:], uint32(at-from))
}

func (w *flatWriter) table(t flat) int {
	slots := 0
	for slot := range t {
		slots = max(slots, slot+1)
	}
	layout := len(w.b)
	w.b = append(w.b, make([]byte, 4+2*slots)...)
	w.align(4)
	at := len(w.b)
	w.b = append(w.b, make([]byte, 4+4*slots)...) // four bytes for each field
	binary.LittleEndian.PutUint16(w.b[layout:], uint16(4+2*slots))
	binary.LittleEndian.PutUint16(w.b[layout+2:], uint16(4+4*slots))
	binary.LittleEndian.PutUint32(w.b[at:], uint32(at-layout))
	for slot := range slots {
		value, is := t[slot]
		if !is {
			continue
		}
		field := at + 4 + 4*slot
		binary.LittleEndian.PutUint16(w.b[layout+4+2*slot:], uint16(field-at))
		switch v := value.(type) {
		case uint8:
			w.b[field] = v
		case int32:
			binary.LittleEndian.PutUint32(w.b[field:], uint32(v))
		case uint32:
			binary.LittleEndian.PutUint32(w.b[field:], v)
		default:
			w.refer(field, v)
		}
	}
	return at
}

func floats(all ...float32) []byte {
	var b []byte
	for _, f := range all {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}
