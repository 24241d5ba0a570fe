package protocol

import (
	"errors"
	"testing"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
)

// FuzzUnmarshal: to count messages changes nothing of how they are read.
func FuzzUnmarshal(f *testing.F) {
	text, err := proto.Marshal(&kservepb.ModelInferRequest{
		ModelName: "a", Parameters: map[string]*kservepb.InferParameter{"p": {}},
		Inputs:           []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Shape: []int64{1}, Contents: &kservepb.InferTensorContents{Fp32Contents: []float32{1}}}},
		RawInputContents: [][]byte{{1, 2}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)-3])
	f.Add([]byte{0x2a, 0x00, 0x2a, 0x7f})
	f.Fuzz(func(t *testing.T, text []byte) {
		got, want := &kservepb.ModelInferRequest{}, &kservepb.ModelInferRequest{}
		err := codec{encoding.GetCodecV2(protocodec.Name)}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(text)}, got)
		if wanted := proto.Unmarshal(text, want); !errors.Is(err, ErrTooLarge) && ((err == nil) != (wanted == nil) || err == nil && !proto.Equal(got, want)) {
			t.Errorf("%x: %v, %v; want %v, %v", text, got, err, want, wanted)
		}
	})
}
