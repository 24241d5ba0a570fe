package protocol

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxMessages is how many messages may be in a request's, far more than one has. An
// empty one takes two bytes on the wire, and a hundred times as much in memory.
const maxMessages = 1 << 16

// ServerOptions are those of a gRPC server that bound what a request takes: it may have
// max bytes, and its panic is its alone, as net/http has it.
func ServerOptions(max int, log *slog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(max),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(protocodec.Name)}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, answer grpc.UnaryHandler) (_ any, err error) {
			defer func() {
				if why := recover(); why != nil {
					log.Error("a request panicked", "method", info.FullMethod, "why", fmt.Sprint(why), "stack", string(debug.Stack()))
					err = status.Error(codes.Internal, "the server has a defect; its log says more")
				}
			}()
			return answer(ctx, request)
		}),
	}
}

// codec counts the messages in a message before it makes them.
type codec struct{ encoding.CodecV2 }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, is := v.(proto.Message)
	if !is {
		return c.CodecV2.Unmarshal(data, v)
	}
	wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer wire.Free()
	left := maxMessages
	if err := count(wire.ReadOnlyData(), m.ProtoReflect().Descriptor(), &left); err != nil {
		return err
	}
	return proto.Unmarshal(wire.ReadOnlyData(), m)
}

// count is ErrTooLarge when nothing is left. What is no message is not its matter.
func count(wire []byte, d protoreflect.MessageDescriptor, left *int) error {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return nil
		}
		wire = wire[n:]
		if n = protowire.ConsumeFieldValue(number, kind, wire); n < 0 {
			return nil
		}
		if f := d.Fields().ByNumber(number); f != nil && f.Kind() == protoreflect.MessageKind && kind == protowire.BytesType {
			if *left--; *left < 0 {
				return fmt.Errorf("%w: it has more than %d messages", ErrTooLarge, maxMessages)
			}
			inner, _ := protowire.ConsumeBytes(wire)
			if err := count(inner, f.Message(), left); err != nil {
				return err
			}
		}
		wire = wire[n:]
	}
	return nil
}
