package tfserving

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// FuzzParse: a request's body is refused as such, or has tensors of the inputs' types
// with what their shapes say.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"signature_name":"serving_default","instances":[{"a":[1,2],"t":"x"},{"t":{"b64":"YQ=="},"a":[3,4]}]}`), false)
	f.Add([]byte(`{"inputs":{"a":[[1,2]],"t":["x"]}}`), false)
	f.Add([]byte(`{"instances":[{"b64":"YQ=="},"x"]}`), true)
	f.Add([]byte(`{"inputs":[[],[]]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, one bool) {
		ports := []inference.Port{{Name: "t", Type: inference.Bytes, Shape: []int64{-1}}, {Name: "a", Type: inference.Float32, Shape: []int64{-1, 2}}}
		if one {
			ports = ports[:1]
		}
		q, err := parse(body, ports)
		if err != nil {
			if !errors.Is(err, inference.ErrInvalid) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		for _, in := range q.inputs {
			if err := in.Check(); err != nil {
				t.Errorf("%q: %v", body, err)
			}
			if q.rows && in.Shape[0] != q.batch {
				t.Errorf("%q: a batch of %d has shape %v", body, q.batch, in.Shape)
			}
		}
	})
}

// FuzzTensor: a tensor is refused, or no longer than it may be; what is answered with
// it is read as the same.
func FuzzTensor(f *testing.F) {
	for _, p := range []*pb.TensorProto{
		{Dtype: pb.DataType_DT_FLOAT, TensorShape: shape([]int64{2, 3}), FloatVal: []float32{1}},
		{Dtype: pb.DataType_DT_STRING, TensorShape: shape([]int64{2}), StringVal: [][]byte{[]byte("ab"), nil}},
		{Dtype: pb.DataType_DT_INT16, TensorShape: shape([]int64{2}), TensorContent: []byte{1, 2, 3, 4}},
		{Dtype: pb.DataType_DT_BOOL, TensorShape: shape([]int64{1 << 40}), BoolVal: []bool{true}},
		{Dtype: pb.DataType_DT_HALF, TensorShape: shape(nil), HalfVal: []int32{15360}},
	} {
		text, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 1 << 12
		p := &pb.TensorProto{}
		if proto.Unmarshal(text, p) != nil {
			return
		}
		in, err := tensor("x", p, limit)
		if err != nil {
			if !errors.Is(err, inference.ErrInvalid) && !errors.Is(err, protocol.ErrTooLarge) {
				t.Error(err)
			}
			return
		}
		if len(in.Data) > max(3*limit, len(text)) {
			t.Errorf("%d bytes became %d", len(text), len(in.Data))
		}
		if in.Check() != nil {
			return // the model's port is asked for that
		}
		out, err := tensorProto(in)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tensor("x", out, 1<<30)
		if err != nil || in.Type != inference.Bool && string(again.Data) != string(in.Data) {
			t.Errorf("%v became %v, %v", in, again, err)
		}
	})
}
