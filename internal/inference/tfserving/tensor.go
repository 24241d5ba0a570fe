package tfserving

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// dtype is TensorFlow's name of a type.
func dtype(t inference.Type) pb.DataType {
	switch t {
	case inference.Bool:
		return pb.DataType_DT_BOOL
	case inference.Uint8:
		return pb.DataType_DT_UINT8
	case inference.Uint16:
		return pb.DataType_DT_UINT16
	case inference.Uint32:
		return pb.DataType_DT_UINT32
	case inference.Uint64:
		return pb.DataType_DT_UINT64
	case inference.Int8:
		return pb.DataType_DT_INT8
	case inference.Int16:
		return pb.DataType_DT_INT16
	case inference.Int32:
		return pb.DataType_DT_INT32
	case inference.Int64:
		return pb.DataType_DT_INT64
	case inference.Float16:
		return pb.DataType_DT_HALF
	case inference.BFloat16:
		return pb.DataType_DT_BFLOAT16
	case inference.Float32:
		return pb.DataType_DT_FLOAT
	case inference.Float64:
		return pb.DataType_DT_DOUBLE
	case inference.Bytes:
		return pb.DataType_DT_STRING
	}
	return pb.DataType_DT_INVALID
}

func typeOf(d pb.DataType) (inference.Type, error) {
	for t := inference.Bool; t <= inference.Bytes; t++ {
		if dtype(t) == d {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%w: dtype %s is not offered", inference.ErrInvalid, d)
}

// tensor is one of a request. What is written in less than it has takes at most limit
// bytes.
func tensor(name string, p *pb.TensorProto, limit int64) (inference.Tensor, error) {
	t := inference.Tensor{Name: name, Data: p.GetTensorContent()}
	for _, d := range p.GetTensorShape().GetDim() {
		t.Shape = append(t.Shape, d.GetSize())
	}
	n, err := inference.Elements(t.Shape)
	if err == nil {
		t.Type, err = typeOf(p.GetDtype())
	}
	switch {
	case err != nil:
	case p.GetTensorShape().GetUnknownRank():
		err = fmt.Errorf("%w: it has no shape", inference.ErrInvalid)
	case t.Type == inference.Bytes && len(t.Data) > 0:
		err = fmt.Errorf("%w: DT_STRING has its elements in string_val", inference.ErrInvalid)
	case len(t.Data) == 0:
		t.Data, err = values(t.Type, p, n, limit)
	}
	if err != nil {
		return inference.Tensor{}, fmt.Errorf("input %q: %w", name, err)
	}
	return t, nil
}

// values are the n elements that are in the field of a type.
func values(t inference.Type, p *pb.TensorProto, n, limit int64) ([]byte, error) {
	le := binary.LittleEndian
	switch t {
	case inference.Bool:
		return repeat(t, p.GetBoolVal(), n, limit, func(d []byte, b bool) []byte {
			if b {
				return append(d, 1)
			}
			return append(d, 0)
		})
	case inference.Int8:
		return narrow(t, p.GetIntVal(), n, limit, math.MinInt8, math.MaxInt8)
	case inference.Uint8:
		return narrow(t, p.GetIntVal(), n, limit, 0, math.MaxUint8)
	case inference.Int16:
		return narrow(t, p.GetIntVal(), n, limit, math.MinInt16, math.MaxInt16)
	case inference.Uint16:
		return narrow(t, p.GetIntVal(), n, limit, 0, math.MaxUint16)
	case inference.Float16, inference.BFloat16:
		return narrow(t, p.GetHalfVal(), n, limit, 0, math.MaxUint16)
	case inference.Int32:
		return repeat(t, p.GetIntVal(), n, limit, func(d []byte, v int32) []byte { return le.AppendUint32(d, uint32(v)) })
	case inference.Uint32:
		return repeat(t, p.GetUint32Val(), n, limit, le.AppendUint32)
	case inference.Int64:
		return repeat(t, p.GetInt64Val(), n, limit, func(d []byte, v int64) []byte { return le.AppendUint64(d, uint64(v)) })
	case inference.Uint64:
		return repeat(t, p.GetUint64Val(), n, limit, le.AppendUint64)
	case inference.Float32:
		return repeat(t, p.GetFloatVal(), n, limit, func(d []byte, f float32) []byte { return le.AppendUint32(d, math.Float32bits(f)) })
	case inference.Float64:
		return repeat(t, p.GetDoubleVal(), n, limit, func(d []byte, f float64) []byte { return le.AppendUint64(d, math.Float64bits(f)) })
	default:
		return repeat(t, p.GetStringVal(), n, limit, inference.AppendText)
	}
}

// narrow are numbers of one or two bytes, which are in a field of a wider type.
func narrow(t inference.Type, from []int32, n, limit int64, least, most int32) ([]byte, error) {
	for _, v := range from {
		if v < least || v > most {
			return nil, fmt.Errorf("%w: %d is not of type %s", inference.ErrInvalid, v, t)
		}
	}
	return repeat(t, from, n, limit, func(d []byte, v int32) []byte {
		if t.Size() == 1 {
			return append(d, byte(v))
		}
		return binary.LittleEndian.AppendUint16(d, uint16(v))
	})
}

// repeat appends n elements. The last that there is stands for those that are missing.
func repeat[value any](t inference.Type, from []value, n, limit int64, to func([]byte, value) []byte) ([]byte, error) {
	switch given := int64(len(from)); {
	case given > n:
		return nil, fmt.Errorf("%w: %d values for %d elements", inference.ErrInvalid, given, n)
	case n == 0:
		return nil, nil
	case given == 0:
		return nil, fmt.Errorf("%w: it has no values of type %s", inference.ErrInvalid, t)
	}
	if n > limit/int64(max(1, t.Size())) {
		return nil, fmt.Errorf("%w: %d elements of type %s", protocol.ErrTooLarge, n, t)
	}
	data := make([]byte, 0, n*int64(t.Size()))
	for i := range n {
		data = to(data, from[min(i, int64(len(from)-1))])
		if t == inference.Bytes && int64(len(data)) > 2*limit { // they have their lengths, too
			return nil, fmt.Errorf("%w: %d elements of type %s", protocol.ErrTooLarge, n, t)
		}
	}
	return data, nil
}

// tensorProto is a tensor of an answer. Its elements are in the field of its type, as
// TensorFlow Serving answers: there are clients that look only there.
func tensorProto(t inference.Tensor) (*pb.TensorProto, error) {
	n, err := inference.Elements(t.Shape)
	if err != nil {
		return nil, err
	}
	p := &pb.TensorProto{Dtype: dtype(t.Type), TensorShape: shape(t.Shape)}
	d, le := t.Data, binary.LittleEndian
	switch t.Type {
	case inference.Bool:
		p.BoolVal = list(n, func(i int) bool { return d[i] != 0 })
	case inference.Int8:
		p.IntVal = list(n, func(i int) int32 { return int32(int8(d[i])) })
	case inference.Uint8:
		p.IntVal = list(n, func(i int) int32 { return int32(d[i]) })
	case inference.Int16:
		p.IntVal = list(n, func(i int) int32 { return int32(int16(le.Uint16(d[2*i:]))) })
	case inference.Uint16:
		p.IntVal = list(n, func(i int) int32 { return int32(le.Uint16(d[2*i:])) })
	case inference.Float16, inference.BFloat16:
		p.HalfVal = list(n, func(i int) int32 { return int32(le.Uint16(d[2*i:])) })
	case inference.Int32:
		p.IntVal = list(n, func(i int) int32 { return int32(le.Uint32(d[4*i:])) })
	case inference.Uint32:
		p.Uint32Val = list(n, func(i int) uint32 { return le.Uint32(d[4*i:]) })
	case inference.Int64:
		p.Int64Val = list(n, func(i int) int64 { return int64(le.Uint64(d[8*i:])) })
	case inference.Uint64:
		p.Uint64Val = list(n, func(i int) uint64 { return le.Uint64(d[8*i:]) })
	case inference.Float32:
		p.FloatVal = list(n, func(i int) float32 { return math.Float32frombits(le.Uint32(d[4*i:])) })
	case inference.Float64:
		p.DoubleVal = list(n, func(i int) float64 { return math.Float64frombits(le.Uint64(d[8*i:])) })
	case inference.Bytes:
		p.StringVal, err = inference.Texts(d, n)
	}
	return p, err
}

func list[value any](n int64, at func(int) value) []value {
	all := make([]value, n)
	for i := range all {
		all[i] = at(i)
	}
	return all
}

func shape(dims []int64) *pb.TensorShapeProto {
	p := &pb.TensorShapeProto{}
	for _, d := range dims {
		p.Dim = append(p.Dim, &pb.TensorShapeProto_Dim{Size: d})
	}
	return p
}
