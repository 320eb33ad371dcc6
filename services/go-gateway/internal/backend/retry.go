package backend

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// Why a call was sent again, as the metric names it.
const (
	// RetryUnprocessed: grpc-go itself sent it again, once, because the pod refused the stream unread.
	RetryUnprocessed = "unprocessed"
	// RetryNotConnected: the sidecar couldn't connect to the pod.
	RetryNotConnected = "not_connected"
	// RetryDraining: the pod is shutting down and said so instead of running it.
	RetryDraining = "draining"
)

// retryElsewhere sends a unary call that certainly didn't run to one other pod, once, within the call's own deadline. Calls
// that may have run are never repeated: inference isn't known to be idempotent. This is the only place that retries:
// the mesh's own retries are switched off.
func retryElsewhere(pods *pool, observer Observer) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		ctx, route := withRoute(ctx)
		var trailer metadata.MD
		err := invoke(ctx, method, request, reply, conn, append(slices.Clip(options), grpc.Trailer(&trailer))...)
		if route.repeated {
			observer.Retried(RetryUnprocessed)
		}
		reason := neverRan(err, trailer)
		if _, pinned := pinnedIn(ctx); pinned || reason == "" || over(ctx) || route.picked == nil || !pods.offersAnother(route.picked) {
			return err
		}
		observer.Retried(reason)
		route.excluded = route.picked
		return invoke(ctx, method, request, reply, conn, options...)
	}
}

// over says whether the call has ended for its caller. The deadline is read from the clock, since the context learns of it
// by a timer that may be late.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// notConnected are Envoy's reset reasons for a request that found no connection to go out on
// (https://github.com/envoyproxy/envoy/blob/main/source/common/http/utility.cc, resetReasonToString). Others, such as
// "connection termination" and "remote reset", can follow a request that ran.
var notConnected = []string{
	"reset reason: connection failure",
	"reset reason: remote connection failure",
	"reset reason: local connection failure",
	"reset reason: connection timeout",
	"reset reason: overflow",
	"reset reason: remote refused stream reset",
	"reset reason: local refused stream reset",
}

// neverRan says why a failed call certainly didn't run, or "" where it may have.
func neverRan(err error, trailer metadata.MD) string {
	failed, ok := status.FromError(err)
	if !ok || failed.Code() != codes.Unavailable {
		return ""
	}
	if code := trailer.Get(apierr.CodeTrailer); len(code) > 0 {
		if code[0] == apierr.ServerDraining {
			return RetryDraining
		}
		return ""
	}
	text := failed.Message()
	if text == "no healthy upstream" {
		return RetryNotConnected
	}
	if !strings.HasPrefix(text, "upstream connect error or disconnect/reset before headers.") {
		return ""
	}
	for _, reason := range notConnected {
		if strings.Contains(text, reason) {
			return RetryNotConnected
		}
	}
	return ""
}
