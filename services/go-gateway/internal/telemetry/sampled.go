package telemetry

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
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
	carrier := propagation.MapCarrier{}
	otel.GetTextMapPropagator().Inject(ctx, carrier)
	var pairs []string
	for key, value := range carrier {
		pairs = append(pairs, key, value)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

func (h sampledOnly) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if !unsampled(ctx) {
		h.Handler.HandleRPC(ctx, event)
	}
}
