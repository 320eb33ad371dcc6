package batch

import (
	"context"

	"google.golang.org/grpc"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Client is a client of the backend whose ModelInfer joins requests.
type Client struct {
	pb.GRPCInferenceServiceClient
	Batcher *Batcher
}

// ModelInfer implements pb.GRPCInferenceServiceClient.
func (c Client) ModelInfer(ctx context.Context, request *pb.ModelInferRequest, options ...grpc.CallOption) (*pb.ModelInferResponse, error) {
	var own *pb.ModelInferResponse
	joined, trailer, err := c.Batcher.Do(ctx, request, func(ctx context.Context) (err error) {
		own, err = c.GRPCInferenceServiceClient.ModelInfer(ctx, request, options...)
		return err
	})
	if own != nil {
		return own, err
	}
	if trailer != nil {
		for _, option := range options {
			if wanted, ok := option.(grpc.TrailerCallOption); ok {
				*wanted.TrailerAddr = trailer
			}
		}
	}
	return joined, err
}
