package protocol

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
)

// TestCount: messages are counted wherever they are.
func TestCount(t *testing.T) {
	field := func(number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	const parameters, inputs, raw = 4, 5, 7
	for name, part := range map[string][]byte{"beside each other": field(inputs, nil), "in each other": field(inputs, field(parameters, nil))} {
		messages := bytes.Count(part, []byte{parameters<<3 | 2}) + 1
		for more, want := range map[int]error{0: nil, 1: ErrTooLarge} {
			wire := bytes.Repeat(part, maxMessages/messages+more)
			err := codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &kservepb.ModelInferRequest{})
			if !errors.Is(err, want) {
				t.Errorf("%d messages %s: %v, want %v", maxMessages+more, name, err, want)
			}
		}
	}
	wire := bytes.Repeat(field(raw, nil), maxMessages+1) // these are none
	if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &kservepb.ModelInferRequest{}); err != nil {
		t.Error(err)
	}
}
