package inference

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Type is the type of a tensor's elements.
type Type int

// The types of the Open Inference Protocol, and BFloat16.
const (
	Bool Type = iota + 1 // a byte, 0 or 1
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	Float16
	BFloat16
	Float32
	Float64
	Bytes // texts and the like, of any length
)

var types = []struct {
	name string
	size int
}{{}, {"BOOL", 1}, {"UINT8", 1}, {"UINT16", 2}, {"UINT32", 4}, {"UINT64", 8}, {"INT8", 1}, {"INT16", 2}, {"INT32", 4}, {"INT64", 8}, {"FP16", 2}, {"BF16", 2}, {"FP32", 4}, {"FP64", 8}, {"BYTES", 0}}

// String is the type's name in the Open Inference Protocol: "FP32".
func (t Type) String() string {
	if t < Bool || t > Bytes {
		return fmt.Sprintf("Type(%d)", int(t))
	}
	return types[t].name
}

// Size is how long an element is, in bytes; 0 for Bytes, where each has its length.
func (t Type) Size() int {
	if t < Bool || t > Bytes {
		return 0
	}
	return types[t].size
}

// ParseType is the type of a name of the Open Inference Protocol.
func ParseType(name string) (Type, error) {
	for t := Bool; t <= Bytes; t++ {
		if types[t].name == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%w: there is no type %q", ErrInvalid, name)
}

// Tensor is an array of any number of dimensions.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int64 // none for a single element
	// Data are the elements, the last dimension's beside each other, in little endian.
	// Elements of Bytes each begin with their length, 4 bytes. It is the protocol's
	// raw representation.
	Data []byte
}

// ErrInvalid says that a request is wrong. What it says is for who asks.
var ErrInvalid = errors.New("invalid request")

// Elements is how many elements a shape has. It is ErrInvalid of one that cannot be.
func Elements(shape []int64) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("%w: a dimension of shape %v is negative", ErrInvalid, shape)
		}
		if d > 0 && n > math.MaxInt64/8/d { // what it takes in bytes is a number, too
			return 0, fmt.Errorf("%w: shape %v has too many elements", ErrInvalid, shape)
		}
		n *= d
	}
	return n, nil
}

// Check says whether a tensor has the data that its type and shape say: ErrInvalid.
func (t Tensor) Check() error {
	n, err := Elements(t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	size := t.Type.Size()
	switch {
	case t.Type == Bytes:
		_, err = Texts(t.Data, n)
	case size == 0:
		err = fmt.Errorf("%w: it has no type", ErrInvalid)
	case int64(len(t.Data)) != n*int64(size):
		err = fmt.Errorf("%w: it has %d bytes, and shape %v of %s takes %d", ErrInvalid, len(t.Data), t.Shape, t.Type, n*int64(size))
	case t.Type == Bool && slices.ContainsFunc(t.Data, func(b byte) bool { return b > 1 }): // libraries in C++ may do anything then
		err = fmt.Errorf("%w: it has a BOOL that is neither 0 nor 1", ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return nil
}

// textHead is how long an element's length is.
const textHead = 4

// Texts are the n elements of a tensor of Bytes, which are parts of data. It is
// ErrInvalid of data that has not n.
func Texts(data []byte, n int64) ([][]byte, error) {
	if n > int64(len(data)/textHead) {
		return nil, fmt.Errorf("%w: it has less than %d elements", ErrInvalid, n)
	}
	all := make([][]byte, 0, n)
	for range n {
		if len(data) < textHead {
			return nil, fmt.Errorf("%w: it has less than %d elements", ErrInvalid, n)
		}
		length := binary.LittleEndian.Uint32(data)
		if data = data[textHead:]; uint64(length) > uint64(len(data)) {
			return nil, fmt.Errorf("%w: an element is cut", ErrInvalid)
		}
		all = append(all, data[:length:length])
		data = data[length:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%w: it has more than %d elements", ErrInvalid, n)
	}
	return all, nil
}

// AppendText appends an element to the data of a tensor of Bytes.
func AppendText(data, text []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(slices.Grow(data, textHead+len(text)), uint32(len(text))), text...)
}
