package batch

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	tracerName = "github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	spanFailed = codes.Error
)

// Attributes of the span of a batch, and the last of each request's own.
const (
	sizeAttribute     = attribute.Key("polyglot.batch.size") // rows
	requestsAttribute = attribute.Key("polyglot.batch.requests")
	reasonAttribute   = attribute.Key("polyglot.batch.reason")
	waitAttribute     = attribute.Key("polyglot.batch.queue_seconds")
)

// trace begins the batch's span: a child of the first sampled request's, with links to those of the other sampled ones. Where none is
// sampled there is no span, and the call carries the first request's trace on unsampled.
func (b *batch) trace(ctx context.Context) (context.Context, trace.Span) {
	var (
		parent trace.Span
		links  []trace.Link
	)
	for _, e := range b.entries {
		span := trace.SpanFromContext(e.ctx)
		switch {
		case !span.SpanContext().IsSampled():
		case parent == nil:
			parent = span
		default:
			links = append(links, trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if parent == nil {
		return ctx, noop.Span{} // ctx has the first request's
	}
	return otel.Tracer(tracerName).Start(trace.ContextWithSpan(ctx, parent), "batch "+b.model.name, trace.WithLinks(links...), trace.WithAttributes(
		sizeAttribute.Int(b.slot.rows), requestsAttribute.Int(len(b.entries)), reasonAttribute.String(b.reason)))
}

// noteWait tells the request's span how long it was queued.
func noteWait(e *entry) {
	if span := trace.SpanFromContext(e.ctx); span.IsRecording() {
		span.SetAttributes(waitAttribute.Float64(e.waited.Seconds()))
	}
}
