package kserve

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
)

// data are the elements that are in the field of a type.
func data(t inference.Type, c *kservepb.InferTensorContents) ([]byte, error) {
	var all []byte
	var err error
	switch t {
	case inference.Bool:
		for _, b := range c.GetBoolContents() {
			if b {
				all = append(all, 1)
			} else {
				all = append(all, 0)
			}
		}
	case inference.Int8:
		all, err = narrow(t, c.GetIntContents(), math.MinInt8, math.MaxInt8, func(d []byte, n int32) []byte { return append(d, byte(n)) })
	case inference.Int16:
		all, err = narrow(t, c.GetIntContents(), math.MinInt16, math.MaxInt16, func(d []byte, n int32) []byte { return binary.LittleEndian.AppendUint16(d, uint16(n)) })
	case inference.Uint8:
		all, err = narrow(t, c.GetUintContents(), 0, math.MaxUint8, func(d []byte, n uint32) []byte { return append(d, byte(n)) })
	case inference.Uint16:
		all, err = narrow(t, c.GetUintContents(), 0, math.MaxUint16, func(d []byte, n uint32) []byte { return binary.LittleEndian.AppendUint16(d, uint16(n)) })
	case inference.Int32:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetIntContents())
	case inference.Uint32:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetUintContents())
	case inference.Int64:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetInt64Contents())
	case inference.Uint64:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetUint64Contents())
	case inference.Float32:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetFp32Contents())
	case inference.Float64:
		all, err = binary.Append(nil, binary.LittleEndian, c.GetFp64Contents())
	case inference.Bytes:
		for _, text := range c.GetBytesContents() {
			all = inference.AppendText(all, text)
		}
	default:
		err = fmt.Errorf("%w: contents have no field for %s; send raw_input_contents", inference.ErrInvalid, t)
	}
	return all, err
}

// narrow appends numbers that are in fields of a wider type.
func narrow[wide int32 | uint32](t inference.Type, from []wide, least, most wide, to func([]byte, wide) []byte) ([]byte, error) {
	var all []byte
	for _, n := range from {
		if n < least || n > most {
			return nil, fmt.Errorf("%w: %d is not of type %s", inference.ErrInvalid, n, t)
		}
		all = to(all, n)
	}
	return all, nil
}

// contents are a tensor's elements in the field of its type.
func contents(t inference.Tensor) (*kservepb.InferTensorContents, error) {
	n, err := inference.Elements(t.Shape)
	if err != nil {
		return nil, err
	}
	c := &kservepb.InferTensorContents{}
	d := t.Data
	switch t.Type {
	case inference.Bool:
		c.BoolContents = make([]bool, n)
		for i := range c.BoolContents {
			c.BoolContents[i] = d[i] != 0
		}
	case inference.Int8:
		c.IntContents = widen[int32](n, func(i int) int32 { return int32(int8(d[i])) })
	case inference.Int16:
		c.IntContents = widen[int32](n, func(i int) int32 { return int32(int16(binary.LittleEndian.Uint16(d[2*i:]))) })
	case inference.Uint8:
		c.UintContents = widen[uint32](n, func(i int) uint32 { return uint32(d[i]) })
	case inference.Uint16:
		c.UintContents = widen[uint32](n, func(i int) uint32 { return uint32(binary.LittleEndian.Uint16(d[2*i:])) })
	case inference.Int32:
		c.IntContents, err = decode[int32](n, d)
	case inference.Uint32:
		c.UintContents, err = decode[uint32](n, d)
	case inference.Int64:
		c.Int64Contents, err = decode[int64](n, d)
	case inference.Uint64:
		c.Uint64Contents, err = decode[uint64](n, d)
	case inference.Float32:
		c.Fp32Contents, err = decode[float32](n, d)
	case inference.Float64:
		c.Fp64Contents, err = decode[float64](n, d)
	case inference.Bytes:
		c.BytesContents, err = inference.Texts(d, n)
	}
	return c, err
}

func widen[wide any](n int64, at func(int) wide) []wide {
	all := make([]wide, n)
	for i := range all {
		all[i] = at(i)
	}
	return all
}

func decode[number any](n int64, data []byte) ([]number, error) {
	all := make([]number, n)
	_, err := binary.Decode(data, binary.LittleEndian, all)
	return all, err
}
