package backend

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// Call makes a unary call; the error is an *apierr.Error with the pod's own code where it sent one.
func Call[Request, Response any](
	ctx context.Context,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
) (*Response, error) {
	var trailer metadata.MD
	response, err := method(ctx, request, grpc.Trailer(&trailer))
	if err == nil {
		return response, nil
	}
	if late := ctx.Err(); late != nil {
		return nil, apierr.From(late)
	}
	return nil, apierr.FromCall(err, trailer)
}
