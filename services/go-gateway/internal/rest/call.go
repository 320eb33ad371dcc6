package rest

import (
	"context"

	"google.golang.org/grpc"

	pods "github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
)

// call calls one pod; the error is an *apierr.Error with the pod's own code where it sent one.
func call[Request, Response any](
	ctx context.Context,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
) (*Response, error) {
	return pods.Call(ctx, method, request)
}
