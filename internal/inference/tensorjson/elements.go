package tensorjson

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// AppendElements reads elements of a type, alone or in arrays of any depth, and appends
// them to a tensor's data. The shape is that of the arrays.
func (r *Reader) AppendElements(data []byte, t inference.Type) ([]byte, []int64, error) {
	if t == inference.Float16 || t == inference.BFloat16 {
		return nil, nil, r.fail("%s has no representation in JSON; send it as binary data", t)
	}
	e := elements{r: r, t: t, data: data, rank: -1}
	if err := e.read(0); err != nil {
		return nil, nil, err
	}
	return e.data, e.shape[:e.rank], nil
}

// elements are those that are being read.
type elements struct {
	r     *Reader
	t     inference.Type
	data  []byte
	rank  int     // how deep they are; -1 before the first
	shape []int64 // -1 for a dimension of which no array is over yet
}

func (e *elements) read(depth int) error {
	if e.r.Next() != '[' {
		if e.rank < 0 {
			e.rank = depth
		}
		if depth != e.rank {
			return e.r.fail("an element where arrays are beside it")
		}
		return e.element()
	}
	if e.rank >= 0 && depth >= e.rank {
		return e.r.fail("an array where elements are beside it")
	}
	if depth == len(e.shape) {
		e.shape = append(e.shape, -1)
	}
	n := int64(0)
	err := e.r.Array(func() error { n++; return e.read(depth + 1) })
	if err != nil {
		return err
	}
	if e.rank < 0 { // it is empty
		e.rank = depth + 1
	}
	if e.shape[depth] < 0 {
		e.shape[depth] = n
	}
	if e.shape[depth] != n {
		return e.r.fail("an array of %d beside one of %d", n, e.shape[depth])
	}
	return nil
}

func (e *elements) element() error {
	if !e.begins(e.r.Next()) {
		return e.r.unexpected("an element of type " + e.t.String())
	}
	switch e.t {
	case inference.Bool:
		b, err := e.r.Bool()
		if err != nil {
			return err
		}
		if b {
			e.data = append(e.data, 1)
		} else {
			e.data = append(e.data, 0)
		}
		return nil
	case inference.Bytes:
		return e.text()
	}
	number, err := e.r.number()
	if err != nil {
		return err
	}
	var bits uint64
	switch e.t {
	case inference.Float32, inference.Float64:
		var f float64
		if f, err = strconv.ParseFloat(string(number), 8*e.t.Size()); e.t == inference.Float32 {
			bits = uint64(math.Float32bits(float32(f)))
		} else {
			bits = math.Float64bits(f)
		}
	case inference.Int8, inference.Int16, inference.Int32, inference.Int64:
		var i int64
		i, err = strconv.ParseInt(string(number), 10, 8*e.t.Size())
		bits = uint64(i)
	default:
		bits, err = strconv.ParseUint(string(number), 10, 8*e.t.Size())
	}
	if err != nil {
		return e.r.fail("%.40s is not of type %s", number, e.t)
	}
	switch e.t.Size() {
	case 1:
		e.data = append(e.data, byte(bits))
	case 2:
		e.data = binary.LittleEndian.AppendUint16(e.data, uint16(bits))
	case 4:
		e.data = binary.LittleEndian.AppendUint32(e.data, uint32(bits))
	default:
		e.data = binary.LittleEndian.AppendUint64(e.data, bits)
	}
	return nil
}

// begins says whether an element may begin so.
func (e *elements) begins(c byte) bool {
	switch e.t {
	case inference.Bool:
		return c == 't' || c == 'f'
	case inference.Bytes:
		return c == '"' || e.r.Base64 && c == '{'
	case inference.Float32, inference.Float64:
		return c == '-' || c-'0' < 10 || c == 'N' || c == 'I'
	}
	return c == '-' || c-'0' < 10
}

func (e *elements) text() error {
	read := e.r.quoted
	if e.r.Base64 && e.r.Next() == '{' {
		read = e.r.base64
	}
	text, err := read()
	if err != nil {
		return err
	}
	e.data = inference.AppendText(e.data, text)
	return nil
}
