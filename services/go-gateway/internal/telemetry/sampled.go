package telemetry

import (
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// SampledOnly has a client's handler, otelgrpc's, see the calls of sampled traces alone. What it makes of the others nobody records, and
// mostly they are 99 in 100; they carry their trace on unsampled.
func SampledOnly(handler stats.Handler) stats.Handler { return sampledOnly{handler} }

type sampledOnly struct{ stats.Handler }

// unsampled says whether the context belongs to a trace that isn't recorded. Where there is none yet, the handler begins one.
func unsampled(ctx context.Context) bool {
	span := trace.SpanContextFromContext(ctx)
	return span.IsValid() && !span.IsSampled()
}

func (h sampledOnly) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if !unsampled(ctx) {
		return h.Handler.TagRPC(ctx, info)
	}
	outgoing, _ := metadata.FromOutgoingContext(ctx) // a copy
	if outgoing == nil {
		outgoing = metadata.MD{}
	}
	otel.GetTextMapPropagator().Inject(ctx, carrier(outgoing))
	return metadata.NewOutgoingContext(ctx, outgoing)
}

func (h sampledOnly) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if !unsampled(ctx) {
		h.Handler.HandleRPC(ctx, event)
	}
}

// carrier is metadata that a trace is written into.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	for _, value := range metadata.MD(c).Get(key) {
		return value
	}
	return ""
}

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }
