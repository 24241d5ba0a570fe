// Package irtest makes models in OpenVINO's own format, IR, for tests and measurements:
// https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
package irtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Chain is a model that multiplies x, of Rows rows, by one square matrix after the other:
// y, of the same shape, 32-bit floats all. Its weights take 4 x Side x Side x Layers bytes.
type Chain struct{ Rows, Side, Layers int }

// Write writes model.xml and model.bin into a directory. What it has in memory is one
// matrix. The numbers are random, the same each time, and of a size that keeps answers
// from growing.
func (c Chain) Write(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "model.xml"), []byte(c.xml()), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.bin"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := c.weights(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// weights are those of one layer after the other, each the same numbers, turned by
// another number of places.
func (c Chain) weights(w io.Writer) error {
	r := rand.New(rand.NewPCG(1, 2))
	scale := 1 / math.Sqrt(float64(c.Side))
	all := make([]byte, 0, 4*c.Side*c.Side)
	for range c.Side * c.Side {
		all = binary.LittleEndian.AppendUint32(all, math.Float32bits(float32(r.NormFloat64()*scale)))
	}
	for layer := range c.Layers {
		at := 4 * (layer * 7919 % (c.Side * c.Side))
		for _, part := range [][]byte{all[at:], all[:at]} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c Chain) xml() string {
	var layers, edges strings.Builder
	x := fmt.Sprintf("<dim>%d</dim><dim>%d</dim>", c.Rows, c.Side)
	square := fmt.Sprintf("<dim>%d</dim><dim>%d</dim>", c.Side, c.Side)
	fmt.Fprintf(&layers, `<layer id="0" name="x" type="Parameter" version="opset1"><data shape="%d,%d" element_type="f32"/><output><port id="0" precision="FP32" names="x">%s</port></output></layer>`+"\n", c.Rows, c.Side, x)
	from, port := 0, 0
	for i := range c.Layers {
		constant, product, name := 2*i+1, 2*i+2, ""
		if i == c.Layers-1 {
			name = ` names="y"`
		}
		size := 4 * c.Side * c.Side
		fmt.Fprintf(&layers, `<layer id="%d" name="w%d" type="Const" version="opset1"><data element_type="f32" shape="%d, %d" offset="%d" size="%d"/><output><port id="0" precision="FP32">%s</port></output></layer>`+"\n", constant, i, c.Side, c.Side, i*size, size, square)
		fmt.Fprintf(&layers, `<layer id="%d" name="product%d" type="MatMul" version="opset1"><data transpose_a="false" transpose_b="false"/><input><port id="0" precision="FP32">%s</port><port id="1" precision="FP32">%s</port></input><output><port id="2" precision="FP32"%s>%s</port></output></layer>`+"\n", product, i, x, square, name, x)
		fmt.Fprintf(&edges, `<edge from-layer="%d" from-port="%d" to-layer="%d" to-port="0"/><edge from-layer="%d" from-port="0" to-layer="%d" to-port="1"/>`+"\n", from, port, product, constant, product)
		from, port = product, 2
	}
	result := 2*c.Layers + 1
	fmt.Fprintf(&layers, `<layer id="%d" name="result" type="Result" version="opset1"><input><port id="0" precision="FP32">%s</port></input></layer>`+"\n", result, x)
	fmt.Fprintf(&edges, `<edge from-layer="%d" from-port="%d" to-layer="%d" to-port="0"/>`+"\n", from, port, result)
	return fmt.Sprintf("<?xml version=\"1.0\"?>\n<net name=\"chain\" version=\"11\">\n<layers>\n%s</layers>\n<edges>\n%s</edges>\n</net>\n", &layers, &edges)
}
