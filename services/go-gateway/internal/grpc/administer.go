package grpc

import (
	"context"
	"path"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
)

// admit refuses a call of a restricted API without its header.
func (p *passthrough) admit(ctx context.Context, name string) error {
	return p.Policy.Admit(access.Of(path.Base(name)), func(header string) string {
		return strings.Join(metadata.ValueFromIncomingContext(ctx, access.HeaderPrefix+header), ", ")
	})
}

// administer has the administration answer an RPC, of which handle is the generated handler.
func (p *passthrough) administer(handle grpc.MethodHandler) method {
	return func(stream grpc.ServerStream, _ string) (metadata.MD, error) {
		ctx, cancel := p.bounded(stream.Context())
		defer cancel()
		response, err := handle(p.Administration, outgoing(ctx), func(request any) error { return p.receiveMessage(stream, request) }, nil)
		if err != nil {
			return nil, err
		}
		return nil, stream.SendMsg(response)
	}
}

func (p *passthrough) receiveMessage(stream grpc.ServerStream, request any) error {
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	if message, ok := request.(proto.Message); ok {
		return p.withinLimit(proto.Size(message))
	}
	return nil
}
