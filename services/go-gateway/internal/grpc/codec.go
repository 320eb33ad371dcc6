package grpc

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is one message as it came over the wire. What the gateway passes on it doesn't parse.
type frame struct{ bytes []byte }

// codec passes frames through and leaves other messages, which the gateway answers itself, to the protobuf codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if raw, ok := message.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw.bytes)}, nil
	}
	return c.CodecV2.Marshal(message)
}

func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	if raw, ok := message.(*frame); ok {
		raw.bytes = data.Materialize() // a copy: the buffers go back to gRPC's pool when this returns
		return nil
	}
	return c.CodecV2.Unmarshal(data, message)
}
