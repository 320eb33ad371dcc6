package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// The numbers of the fields of LaneRequest and LaneResponse. Their messages are written and read around the bytes of a
// request and an answer, which so are copied once at most: whoever waits for the answer parses it, not who receives it for all.
const (
	callField        = 1
	inferField       = 2 // of both
	cancelField      = 3
	failureField     = 3
	timeoutField     = 4
	traceparentField = 5
	requestIDField   = 6

	// mostFieldBytes is more than the tags, lengths and numbers of a message take.
	mostFieldBytes = 64
)

// Request is a ModelInferRequest whose size is known.
type Request struct {
	message proto.Message   // either this
	data    mem.BufferSlice // or, where it came as bytes, these
	size    int
}

// Measure takes the size of a request, which the codec can marshal.
func Measure(request any, codec encoding.CodecV2) (Request, error) {
	if message, ok := request.(proto.Message); ok {
		return Request{message: message, size: proto.Size(message)}, nil
	}
	data, err := codec.Marshal(request)
	return Request{data: data, size: data.Len()}, err
}

// Size is the request's, in bytes.
func (r Request) Size() int { return r.size }

// appendTo relies on the sizes that Measure has left in the message.
func (r Request) appendTo(buffer []byte) ([]byte, error) {
	if r.message != nil {
		return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(buffer, r.message)
	}
	for _, piece := range r.data {
		buffer = append(buffer, piece.ReadOnlyData()...)
	}
	return buffer, nil
}

// marshal writes the message that begins a call.
func marshal(ctx context.Context, number uint64, call *Call) ([]byte, error) {
	buffer := make([]byte, 0, call.Request.size+len(call.Traceparent)+len(call.RequestID)+mostFieldBytes)
	buffer = appendVarint(buffer, callField, number)
	if deadline, ok := ctx.Deadline(); ok {
		buffer = appendVarint(buffer, timeoutField, uint64(max(time.Until(deadline).Microseconds(), 1)))
	}
	buffer = appendText(buffer, traceparentField, call.Traceparent)
	buffer = appendText(buffer, requestIDField, call.RequestID)
	buffer = protowire.AppendTag(buffer, inferField, protowire.BytesType)
	buffer = protowire.AppendVarint(buffer, uint64(call.Request.size))
	return call.Request.appendTo(buffer)
}

// cancellation is the message that ends a call.
func cancellation(number uint64) []byte {
	return appendVarint(appendVarint(nil, callField, number), cancelField, protowire.EncodeBool(true))
}

func appendVarint(buffer []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(buffer, field, protowire.VarintType), value)
}

func appendText(buffer []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return buffer
	}
	return protowire.AppendString(protowire.AppendTag(buffer, field, protowire.BytesType), text)
}

// codec passes []byte to the stream, and a mem.Buffer from it, which is its receiver's to free.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) (mem.BufferSlice, error) {
	bytes, ok := message.([]byte)
	if !ok {
		return nil, fmt.Errorf("a lane sends bytes, not %T", message)
	}
	return mem.BufferSlice{mem.SliceBuffer(bytes)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	received, ok := message.(*mem.Buffer)
	if !ok {
		return fmt.Errorf("a lane receives a buffer, not %T", message)
	}
	*received = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

var errMalformed = errors.New("the inference server sent a malformed message")

// unmarshal reads a LaneResponse; the outcome keeps what it needs of the buffer.
func unmarshal(buffer mem.Buffer) (number uint64, end outcome, err error) {
	for whole, at := buffer.ReadOnlyData(), 0; at < len(whole); {
		field, kind, length := protowire.ConsumeTag(whole[at:])
		if length < 0 {
			return 0, end, errMalformed
		}
		at += length
		length = protowire.ConsumeFieldValue(field, kind, whole[at:])
		if length < 0 {
			return 0, end, errMalformed
		}
		value := whole[at : at+length]
		at += length
		switch {
		case field == callField && kind == protowire.VarintType:
			number, _ = protowire.ConsumeVarint(value)
		case field == inferField && kind == protowire.BytesType:
			answer, _ := protowire.ConsumeBytes(value)
			end = outcome{answer: buffer.Slice(at-len(answer), at)}
		case field == failureField && kind == protowire.BytesType:
			failure, _ := protowire.ConsumeBytes(value)
			end = failed(failure)
		}
	}
	if end.answer == nil && end.failure == nil {
		return 0, end, errMalformed
	}
	return number, end, nil
}

// failed reads a LaneFailure.
func failed(message []byte) outcome {
	var failure pb.LaneFailure
	if proto.Unmarshal(message, &failure) != nil || failure.GetStatus() == int32(codes.OK) {
		return outcome{failure: status.Error(codes.Internal, errMalformed.Error())}
	}
	trailer := make(metadata.MD, len(failure.GetTrailers()))
	for _, pair := range failure.GetTrailers() {
		trailer.Append(pair.GetKey(), pair.GetValue())
	}
	return outcome{failure: status.Error(codes.Code(uint32(failure.GetStatus())), failure.GetMessage()), trailer: trailer}
}
