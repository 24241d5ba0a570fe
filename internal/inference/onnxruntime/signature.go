package onnxruntime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// Field numbers of ONNX's messages:
// https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
const (
	modelGraph       = 7
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12
	graphSparse      = 15
	tensorName       = 8
	sparseValues     = 1
	valueName        = 1
	valueType        = 2
	typeTensor       = 1
	tensorElemType   = 1
	tensorShape      = 2
	shapeDim         = 1
	dimValue         = 1
)

// maxPort is how long the description of an input or output may be, in bytes, and
// maxPorts how many there may be.
const (
	maxPort  = 64 << 10
	maxPorts = 4096
)

// signature is what a model's file says of its inputs and outputs. complete is false
// where it does not say it all: shapes of outputs need not be there.
//
// ONNX Runtime tells it of a model only after loading it, and the library that we call
// it by loads it a second time for that. What is here reads no weights.
func signature(file io.ReadSeeker) (inputs, outputs []inference.Port, complete bool, err error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, nil, false, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, false, err
	}
	s := &scanner{r: bufio.NewReaderSize(file, 4096), file: file}
	complete = true
	weights := map[string]bool{}
	add := func(ports *[]inference.Port, data []byte) error {
		p, said, err := port(data)
		if err != nil {
			return err
		}
		if len(*ports) == maxPorts {
			return errors.New("it has too many inputs or outputs")
		}
		*ports = append(*ports, p)
		complete = complete && said
		return nil
	}
	graphs := 0
	err = s.message(size, func(field protowire.Number, end int64) error {
		if field != modelGraph {
			return nil
		}
		graphs++
		return s.message(end, func(field protowire.Number, end int64) error {
			switch field {
			case graphInput, graphOutput:
				data, err := s.bytes(end)
				if err != nil {
					return err
				}
				if field == graphInput {
					return add(&inputs, data)
				}
				return add(&outputs, data)
			case graphInitializer:
				return s.nameOf(end, weights)
			case graphSparse:
				return s.message(end, func(field protowire.Number, end int64) error {
					if field != sparseValues {
						return nil
					}
					return s.nameOf(end, weights)
				})
			}
			return nil
		})
	})
	if err == nil && graphs != 1 {
		err = errors.New("it has no graph, or more than one")
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("read an ONNX model: %w", err)
	}
	// Models of before 2019 have their weights among the inputs, too.
	kept := inputs[:0]
	for _, p := range inputs {
		if !weights[p.Name] {
			kept = append(kept, p)
		}
	}
	return kept, outputs, complete, nil
}

// port parses a ValueInfoProto. said is false where it says not all.
func port(data []byte) (p inference.Port, said bool, err error) {
	var elem uint64
	var shaped bool
	err = fields(data, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case valueName:
			p.Name = string(value)
		case valueType:
			return fields(value, func(field protowire.Number, value []byte, _ uint64) error {
				if field != typeTensor {
					return nil
				}
				return fields(value, func(field protowire.Number, value []byte, number uint64) error {
					switch field {
					case tensorElemType:
						elem = number
					case tensorShape:
						shaped = true
						return fields(value, func(field protowire.Number, value []byte, _ uint64) error {
							if field != shapeDim {
								return nil
							}
							d := int64(-1)
							err := fields(value, func(field protowire.Number, _ []byte, number uint64) error {
								if field == dimValue && number <= math.MaxInt64 {
									d = int64(number)
								}
								return nil
							})
							p.Shape = append(p.Shape, d)
							return err
						})
					}
					return nil
				})
			})
		}
		return nil
	})
	if err != nil {
		return p, false, err
	}
	p.Type = typeOf(elem)
	return p, p.Name != "" && p.Type != 0 && shaped, nil
}

// fields calls f for each field of a message: with its bytes, or its number.
func fields(data []byte, f func(field protowire.Number, value []byte, number uint64) error) error {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(data)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(field, value, number); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// scanner reads a long message without what is not wanted of it.
type scanner struct {
	file io.ReadSeeker
	r    *bufio.Reader
	at   int64
}

// message calls f for each field with bytes up to end, which f may read or leave.
func (s *scanner) message(end int64, f func(field protowire.Number, end int64) error) error {
	for s.at < end {
		tag, err := s.varint()
		if err != nil {
			return err
		}
		field, kind := protowire.DecodeTag(tag)
		if field < protowire.MinValidNumber {
			return errCut
		}
		after := s.at
		switch kind {
		case protowire.VarintType:
			if _, err := s.varint(); err != nil {
				return err
			}
			after = s.at
		case protowire.Fixed32Type:
			after += 4
		case protowire.Fixed64Type:
			after += 8
		case protowire.BytesType:
			length, err := s.varint()
			if err != nil {
				return err
			}
			if length > uint64(end-min(s.at, end)) {
				return errCut
			}
			after = s.at + int64(length)
			if err := f(field, after); err != nil {
				return err
			}
		default:
			return errCut
		}
		if after > end {
			return errCut
		}
		if err := s.seek(after); err != nil {
			return err
		}
	}
	return nil
}

// errCut says that a file is no protobuf message.
var errCut = errors.New("it is cut, or is something else")

func (s *scanner) varint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		b, err := s.r.ReadByte()
		if err != nil {
			return 0, errCut
		}
		s.at++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errCut
}

// bytes reads up to end.
func (s *scanner) bytes(end int64) ([]byte, error) {
	if end-s.at > maxPort {
		return nil, errors.New("an input or output is described too long")
	}
	data := make([]byte, end-s.at)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return nil, errCut
	}
	s.at = end
	return data, nil
}

// nameOf notes the name of a tensor that ends there.
func (s *scanner) nameOf(end int64, names map[string]bool) error {
	return s.message(end, func(field protowire.Number, end int64) error {
		if field != tensorName {
			return nil
		}
		name, err := s.bytes(end)
		names[string(name)] = true
		return err
	})
}

// seek goes to a place, without reading what is between where that is more than a little.
func (s *scanner) seek(to int64) error {
	if skip := to - s.at; skip >= 0 && skip <= int64(s.r.Buffered()) {
		s.at = to
		_, err := s.r.Discard(int(skip))
		return err
	}
	if _, err := s.file.Seek(to, io.SeekStart); err != nil {
		return err
	}
	s.r.Reset(s.file)
	s.at = to
	return nil
}
