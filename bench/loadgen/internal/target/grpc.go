package target

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// GRPC calls the unary method with the serialised message over one connection.
//
// Messages pass as bytes, so that the generator knows no contract and measures no encoding of its own.
func GRPC(hostPort, method string, body []byte) (Call, func() error, error) {
	if err := CheckLoopback(hostPort); err != nil {
		return nil, nil, err
	}
	connection, err := grpc.NewClient("passthrough:///"+hostPort,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialLoopback(ctx, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		return nil, nil, fmt.Errorf("target %q: %w", hostPort, err)
	}
	call := func(ctx context.Context) error {
		var answer []byte
		return connection.Invoke(ctx, method, &body, &answer)
	}
	return call, connection.Close, nil
}

// rawCodec passes messages that are protobuf already.
type rawCodec struct{}

func (rawCodec) Marshal(message any) ([]byte, error) {
	bytes, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("want serialised bytes, got %T", message)
	}
	return *bytes, nil
}

func (rawCodec) Unmarshal(data []byte, message any) error {
	bytes, ok := message.(*[]byte)
	if !ok {
		return fmt.Errorf("want room for serialised bytes, got %T", message)
	}
	*bytes = append((*bytes)[:0], data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }
