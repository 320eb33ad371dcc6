package grpc

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// Metadata of one hop, or of the gateway's own making, is not passed on. x-envoy-* and x-forwarded-* would let a caller steer
// the gateway's sidecar (its retries, its timeouts) or claim a client certificate; the trace context is written anew,
// so that the gateway's span is the pods' parent.
var (
	ownPrefixes = []string{":", "grpc-", "x-envoy-", "x-forwarded-"}
	ownKeys     = []string{
		"baggage", "connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection", "te", "traceparent",
		"tracestate", "transfer-encoding", "upgrade", "user-agent",
	}
)

func passable(all metadata.MD) metadata.MD {
	passed := make(metadata.MD, len(all))
	for key, values := range all {
		if !own(key) {
			passed[key] = values
		}
	}
	return passed
}

func own(key string) bool {
	return slices.Contains(ownKeys, key) ||
		slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// outgoing carries the caller's metadata on to the pod; deadline, cancellation and span are the context's own.
func outgoing(ctx context.Context) context.Context {
	incoming, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, passable(incoming))
}

const (
	requestIDKey     = "x-request-id"
	longestRequestID = 128
)

// requestID is the caller's own name for the call, cut to a length that a log line can bear; "" where it sent none.
func requestID(ctx context.Context) string {
	for _, id := range metadata.ValueFromIncomingContext(ctx, requestIDKey) {
		return id[:min(len(id), longestRequestID)]
	}
	return ""
}
