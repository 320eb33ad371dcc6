package grpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// infer passes an inference request on as bytes, like any other call, unless its model's requests are joined to batches: then it is read,
// and sent as bytes only where it goes by itself.
func (p *passthrough) infer(stream grpc.ServerStream, name string) (metadata.MD, error) {
	request, err := p.receive(stream)
	if err != nil {
		return nil, err
	}
	message := new(pb.ModelInferRequest)
	if !p.Batcher.Joins(namedModel(request.bytes)) || proto.Unmarshal(request.bytes, message) != nil {
		return p.forward(stream, name, request) // what is wrong with a message, the pod says
	}
	ctx, cancel := p.bounded(stream.Context())
	defer cancel()
	var trailerAlone metadata.MD
	joined, trailer, err := p.Batcher.Do(outgoing(ctx), message, func(ctx context.Context) (err error) {
		trailerAlone, err = p.exchange(ctx, stream, name, request)
		return err
	})
	switch {
	case joined != nil:
		return nil, stream.SendMsg(joined)
	case trailerAlone != nil:
		return trailerAlone, err
	default:
		return trailer, err
	}
}

// modelNameField is ModelInferRequest.model_name's number.
const modelNameField = 1

// namedModel is the model_name of a ModelInferRequest that isn't parsed otherwise; "" where the message is broken.
func namedModel(message []byte) string {
	name := ""
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return ""
		}
		message = message[length:]
		if number == modelNameField && kind == protowire.BytesType {
			value, length := protowire.ConsumeBytes(message)
			if length < 0 {
				return ""
			}
			name, message = string(value), message[length:] // the last one counts
			continue
		}
		length = protowire.ConsumeFieldValue(number, kind, message)
		if length < 0 {
			return ""
		}
		message = message[length:]
	}
	return name
}
