// Package onnxtest makes models in the format of ONNX, for tests.
package onnxtest

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Affine is the model y = x w + b, in which x, of any number of rows, has as many
// columns as w has rows: of 32-bit floats all. w has its rows one after the other, each
// as long as b.
func Affine(w, b []float32) []byte {
	rows, columns := int64(len(w)/len(b)), int64(len(b))
	graph := message(
		field(1, node("MatMul", []string{"x", "w"}, "xw")),
		field(1, node("Add", []string{"xw", "b"}, "y")),
		field(2, []byte("affine")),
		field(5, tensor("w", []int64{rows, columns}, w)),
		field(5, tensor("b", []int64{columns}, b)),
		field(11, value("x", rows)),
		field(12, value("y", columns)),
	)
	return message(
		number(1, 8), // the format's version
		field(2, []byte("onnxtest")),
		field(7, graph),
		field(8, number(2, 17)), // of the operators
	)
}

func message(fields ...[]byte) (all []byte) {
	for _, f := range fields {
		all = append(all, f...)
	}
	return all
}

func field(n protowire.Number, data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), data)
}

func number(n protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), uint64(v))
}

func node(operator string, inputs []string, output string) (all []byte) {
	for _, in := range inputs {
		all = append(all, field(1, []byte(in))...)
	}
	return message(all, field(2, []byte(output)), field(3, []byte(output)), field(4, []byte(operator)))
}

const float = 1 // an element type

func tensor(name string, shape []int64, data []float32) (all []byte) {
	for _, d := range shape {
		all = append(all, number(1, d)...)
	}
	raw := make([]byte, 0, 4*len(data))
	for _, f := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return message(all, number(2, float), field(8, []byte(name)), field(9, raw))
}

// value describes an input or output of any number of rows.
func value(name string, columns int64) []byte {
	shape := message(field(1, field(2, []byte("rows"))), field(1, number(1, columns)))
	return message(field(1, []byte(name)), field(2, field(1, message(number(1, float), field(2, shape)))))
}
