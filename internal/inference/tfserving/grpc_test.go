package tfserving_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

func client(t testing.TB, rpc string) pb.PredictionServiceClient {
	t.Helper()
	c, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return pb.NewPredictionServiceClient(c)
}

func dims(sizes ...int64) *pb.TensorShapeProto {
	p := &pb.TensorShapeProto{}
	for _, d := range sizes {
		p.Dim = append(p.Dim, &pb.TensorShapeProto_Dim{Size: d})
	}
	return p
}

// TestTensors: tensors that no client of ours would send, each beside one that is right.
func TestTensors(t *testing.T) {
	const max = 1 << 16
	_, rpc := serve(t, max, inferencetest.Healthy()...)
	c := client(t, rpc)
	float := func(shape *pb.TensorShapeProto, values ...float32) *pb.TensorProto {
		return &pb.TensorProto{Dtype: pb.DataType_DT_FLOAT, TensorShape: shape, FloatVal: values}
	}
	ints := func(d pb.DataType, values ...int32) *pb.TensorProto {
		return &pb.TensorProto{Dtype: d, TensorShape: dims(1, int64(len(values))), IntVal: values}
	}
	texts := func(n int64, values ...string) *pb.TensorProto {
		p := &pb.TensorProto{Dtype: pb.DataType_DT_STRING, TensorShape: dims(1, n)}
		for _, v := range values {
			p.StringVal = append(p.StringVal, []byte(v))
		}
		return p
	}
	one := func(p *pb.TensorProto) map[string]*pb.TensorProto { return map[string]*pb.TensorProto{"x": p} }
	for _, tt := range []struct {
		name, model string
		inputs      map[string]*pb.TensorProto
		code        codes.Code
		says        string
	}{
		{"as many values as elements", "echo_fp32", one(float(dims(1, 2), 1, 2)), codes.OK, ""},
		{"the last for those that are missing", "echo_fp32", one(float(dims(1, 5), 1, 2)), codes.OK, ""},
		{"more values than elements", "echo_fp32", one(float(dims(1, 2), 1, 2, 3)), codes.InvalidArgument, "3 values for 2 elements"},
		{"no values", "echo_fp32", one(float(dims(1, 2))), codes.InvalidArgument, "it has no values of type FP32"},
		{"no values for no elements", "echo_fp32", one(float(dims(0, 2))), codes.OK, ""},
		{"a negative dimension", "echo_fp32", one(float(dims(-1, 2), 1)), codes.InvalidArgument, "negative"},
		{"dimensions without end", "echo_fp32", one(float(dims(1<<40, 1<<40), 1)), codes.InvalidArgument, "too many elements"},
		{"no rank", "echo_fp32", one(&pb.TensorProto{Dtype: pb.DataType_DT_FLOAT, TensorShape: &pb.TensorShapeProto{UnknownRank: true}, FloatVal: []float32{1}}), codes.InvalidArgument, "it has no shape"},
		{"no type", "echo_fp32", one(&pb.TensorProto{TensorShape: dims(1, 1), FloatVal: []float32{1}}), codes.InvalidArgument, "DT_INVALID is not offered"},
		{"content that is cut", "echo_fp32", one(&pb.TensorProto{Dtype: pb.DataType_DT_FLOAT, TensorShape: dims(1, 2), TensorContent: make([]byte, 7)}), codes.InvalidArgument, "it has 7 bytes"},
		{"texts as content", "echo_bytes", one(&pb.TensorProto{Dtype: pb.DataType_DT_STRING, TensorShape: dims(1, 1), TensorContent: []byte("\x01\x00\x00\x00a")}), codes.InvalidArgument, "string_val"},
		{"INT8", "echo_int8", one(ints(pb.DataType_DT_INT8, -128, 127)), codes.OK, ""},
		{"beyond INT8", "echo_int8", one(ints(pb.DataType_DT_INT8, 128)), codes.InvalidArgument, "128 is not of type INT8"},
		{"below UINT8", "echo_uint8", one(ints(pb.DataType_DT_UINT8, -1)), codes.InvalidArgument, "-1 is not of type UINT8"},
		{"beyond UINT16", "echo_uint16", one(ints(pb.DataType_DT_UINT16, 65536)), codes.InvalidArgument, "65536 is not of type UINT16"},
		{"beyond INT16", "echo_int16", one(ints(pb.DataType_DT_INT16, 32768)), codes.InvalidArgument, "32768 is not of type INT16"},
		{"a value for all that may be", "echo_fp32", one(float(dims(1, max/4), 1)), codes.OK, ""},
		{"a value for one more", "echo_fp32", one(float(dims(1, max/4+1), 1)), codes.ResourceExhausted, "too large"},
		{"a text for many", "echo_bytes", one(texts(10, strings.Repeat("x", 1000))), codes.OK, ""},
		{"a text for too many", "echo_bytes", one(texts(1000, strings.Repeat("x", 1000))), codes.ResourceExhausted, "too large"},
		{"all of two inputs", "two", map[string]*pb.TensorProto{"a": float(dims(max/16, 2), 1), "b": float(dims(max/16, 2), 1)}, codes.OK, ""},
		{"two that are too large together", "two", map[string]*pb.TensorProto{"a": float(dims(max/8, 2), 1), "b": float(dims(max/8, 2), 1)}, codes.ResourceExhausted, "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Predict(t.Context(), &pb.PredictRequest{ModelSpec: &pb.ModelSpec{Name: tt.model}, Inputs: tt.inputs})
			if s := status.Convert(err); s.Code() != tt.code || !strings.Contains(s.Message(), tt.says) {
				t.Errorf("%v, want %s %q", err, tt.code, tt.says)
			}
		})
	}
}

// TestModelSpecs: which version is asked, and which cannot be.
func TestModelSpecs(t *testing.T) {
	_, rpc := serve(t, 1<<16, "affine")
	c := client(t, rpc)
	x := map[string]*pb.TensorProto{"x": {Dtype: pb.DataType_DT_FLOAT, TensorShape: dims(1, 4), FloatVal: []float32{0}}}
	number := func(n int64) *pb.ModelSpec {
		return &pb.ModelSpec{Name: "affine", VersionChoice: &pb.ModelSpec_Version{Version: wrapperspb.Int64(n)}}
	}
	for _, tt := range []struct {
		spec    *pb.ModelSpec
		code    codes.Code
		version int64
	}{
		{nil, codes.NotFound, 0},
		{&pb.ModelSpec{Name: "affine"}, codes.OK, 2},
		{number(0), codes.OK, 2},
		{number(1), codes.OK, 1},
		{number(3), codes.Unavailable, 0},
		{number(-1), codes.InvalidArgument, 0},
		{&pb.ModelSpec{Name: "affine", SignatureName: "serving_default"}, codes.OK, 2},
		{&pb.ModelSpec{Name: "affine", SignatureName: "other"}, codes.InvalidArgument, 0},
		{&pb.ModelSpec{Name: "affine", VersionChoice: &pb.ModelSpec_VersionLabel{VersionLabel: "stable"}}, codes.NotFound, 0},
	} {
		r, err := c.Predict(t.Context(), &pb.PredictRequest{ModelSpec: tt.spec, Inputs: x})
		if status.Code(err) != tt.code || r.GetModelSpec().GetVersion().GetValue() != tt.version {
			t.Errorf("%v: %v, %v; want %s, version %d", tt.spec, r.GetModelSpec(), err, tt.code, tt.version)
		}
	}
}
