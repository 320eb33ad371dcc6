package backend

import (
	"context"
	"encoding/hex"
	"unicode/utf8"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/lane"
)

// How a call of ModelInfer is sent, as the metric names it: by lane, or by itself and why.
const (
	// WayLane: as a message of an open stream.
	WayLane = "lane"
	// WaySampled: proxies and pods are to see its trace, and read it from headers.
	WaySampled = "sampled"
	// WayMetadata: it has metadata that a lane doesn't carry.
	WayMetadata = "metadata"
	// WayLarge: it is larger than a lane takes.
	WayLarge = "large"
	// WayNotOpen: the pod has no lane, or not yet.
	WayNotOpen = "not_open"
	// WayFull: the pod hasn't read yet what is in its lane, or the lane has just ended.
	WayFull = "full"
)

// Ways are all of them.
var Ways = []string{WayLane, WaySampled, WayMetadata, WayLarge, WayNotOpen, WayFull}

const (
	requestIDKey     = "x-request-id"
	longestRequestID = 128
)

// fit returns the call as a lane carries it and WayLane, or why it doesn't fit in one. Nothing that a call of its own would bring to
// the pod may be lost.
func fit(ctx context.Context, request, reply any, options []grpc.CallOption) (lane.Call, string) {
	call := lane.Call{Reply: reply, Codec: codecOf(options)}
	span := trace.SpanContextFromContext(ctx)
	switch {
	case span.IsSampled():
		return call, WaySampled
	case span.TraceState().Len() > 0 || baggage.FromContext(ctx).Len() > 0:
		return call, WayMetadata
	case span.IsValid():
		call.Traceparent = traceparent(span)
	}
	pairs, _ := metadata.FromOutgoingContext(ctx)
	for key, values := range pairs {
		if key != requestIDKey || len(values) != 1 || len(values[0]) > longestRequestID || !utf8.ValidString(values[0]) {
			return call, WayMetadata
		}
		call.RequestID = values[0]
	}
	measured, err := lane.Measure(request, call.Codec)
	if err != nil || measured.Size() > lane.MaxRequestBytes {
		return call, WayLarge // where it can't be marshalled, the call itself says so
	}
	call.Request = measured
	return call, WayLane
}

// codecOf is the codec that a call brings, or gRPC's own.
func codecOf(options []grpc.CallOption) encoding.CodecV2 {
	for _, option := range options {
		if forced, ok := option.(grpc.ForceCodecV2CallOption); ok {
			return forced.CodecV2
		}
	}
	return encoding.GetCodecV2(proto.Name)
}

// traceparent is W3C Trace Context's header for a span that isn't sampled.
// https://www.w3.org/TR/trace-context/#traceparent-header
func traceparent(span trace.SpanContext) string {
	traceID, spanID := span.TraceID(), span.SpanID()
	text := make([]byte, 0, 55)
	text = append(text, "00-"...)
	text = hex.AppendEncode(text, traceID[:])
	text = append(text, '-')
	text = hex.AppendEncode(text, spanID[:])
	return string(append(text, "-00"...))
}
