package tensorjson

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// ErrNotText says that a tensor has elements that JSON has no representation for.
var ErrNotText = errors.New("has no representation in JSON")

// Values are the elements of a tensor, for JSON.
type Values struct {
	// Base64 writes texts as {"b64": "..."}.
	Base64 bool

	t     inference.Type
	data  []byte
	texts [][]byte
}

// NewValues are those of a tensor that has what it says (Check): ErrNotText for types
// that JSON cannot have.
func NewValues(t inference.Tensor) (*Values, error) {
	v := &Values{t: t.Type, data: t.Data}
	switch t.Type {
	case inference.Float16, inference.BFloat16:
		return nil, fmt.Errorf("%s %w", t.Type, ErrNotText)
	case inference.Bytes:
		n, err := inference.Elements(t.Shape)
		if err != nil {
			return nil, err
		}
		if v.texts, err = inference.Texts(t.Data, n); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// UTF8 says whether all are texts that a JSON string can have.
func (v *Values) UTF8() bool {
	for _, text := range v.texts {
		if !utf8.Valid(text) {
			return false
		}
	}
	return true
}

// Append appends the next ones, in arrays of a shape; without one, a single one.
func (v *Values) Append(to []byte, shape []int64) ([]byte, error) {
	if len(shape) == 0 {
		return v.append(to)
	}
	to = append(to, '[')
	for i := range shape[0] {
		if i > 0 {
			to = append(to, ',')
		}
		var err error
		if to, err = v.Append(to, shape[1:]); err != nil {
			return nil, err
		}
	}
	return append(to, ']'), nil
}

func (v *Values) append(to []byte) ([]byte, error) {
	if v.t == inference.Bytes {
		text := v.texts[0]
		v.texts = v.texts[1:]
		if v.Base64 {
			return append(base64.StdEncoding.AppendEncode(append(to, `{"b64":"`...), text), `"}`...), nil
		}
		if !utf8.Valid(text) {
			return nil, fmt.Errorf("a text that is not UTF-8 %w", ErrNotText)
		}
		return AppendString(to, text), nil
	}
	d := v.data
	v.data = v.data[v.t.Size():]
	switch v.t {
	case inference.Bool:
		return strconv.AppendBool(to, d[0] != 0), nil
	case inference.Uint8:
		return strconv.AppendUint(to, uint64(d[0]), 10), nil
	case inference.Uint16:
		return strconv.AppendUint(to, uint64(binary.LittleEndian.Uint16(d)), 10), nil
	case inference.Uint32:
		return strconv.AppendUint(to, uint64(binary.LittleEndian.Uint32(d)), 10), nil
	case inference.Uint64:
		return strconv.AppendUint(to, binary.LittleEndian.Uint64(d), 10), nil
	case inference.Int8:
		return strconv.AppendInt(to, int64(int8(d[0])), 10), nil
	case inference.Int16:
		return strconv.AppendInt(to, int64(int16(binary.LittleEndian.Uint16(d))), 10), nil
	case inference.Int32:
		return strconv.AppendInt(to, int64(int32(binary.LittleEndian.Uint32(d))), 10), nil
	case inference.Int64:
		return strconv.AppendInt(to, int64(binary.LittleEndian.Uint64(d)), 10), nil
	case inference.Float32:
		return appendFloat(to, float64(math.Float32frombits(binary.LittleEndian.Uint32(d))), 32), nil
	default:
		return appendFloat(to, math.Float64frombits(binary.LittleEndian.Uint64(d)), 64), nil
	}
}

// appendFloat appends the shortest number that is read as the same. It has a point or
// an exponent: clients without types would take it for an integer.
func appendFloat(to []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(to, "NaN"...)
	case math.IsInf(f, 1):
		return append(to, "Infinity"...)
	case math.IsInf(f, -1):
		return append(to, "-Infinity"...)
	}
	began := len(to)
	to = strconv.AppendFloat(to, f, 'g', -1, bits)
	for _, c := range to[began:] {
		if c == '.' || c == 'e' {
			return to
		}
	}
	return append(to, ".0"...)
}

// AppendString appends a string of UTF-8.
func AppendString[text ~string | ~[]byte](to []byte, s text) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c < ' ':
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = append(to, c)
		}
	}
	return append(to, '"')
}
