package rest

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// traced records the spans that end during the test.
func traced(t *testing.T) *tracetest.SpanRecorder {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() {
		otel.SetTracerProvider(noop.NewTracerProvider()) // the provider from before would go on delegating to this test's
		otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator())
	})
	return recorder
}

func TestTraceOfTheCallerGoesOnAndIsNamedInTheAnswer(t *testing.T) {
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	for name, test := range map[string]struct {
		path   string
		status int
		span   string
	}{
		"success": {inferPath, http.StatusOK, "POST /v2/models/{model}/infer"},
		"failure": {"/v2/models/none/infer", http.StatusNotFound, "POST /v2/models/{model}/infer"},
		"no path": {"/coffee", http.StatusNotFound, "POST unmatched"},
	} {
		t.Run(name, func(t *testing.T) {
			spans := traced(t)
			g := newGateway(t, &pod{}, nil)
			got := g.call(t, "POST", test.path, inferBody, "Traceparent: 00-"+traceID+"-b7ad6b7169203331-01")
			if got.status != test.status || got.header.Get("X-Trace-Id") != traceID {
				t.Errorf("got %d with trace %q, want %d with %q", got.status, got.header.Get("X-Trace-Id"), test.status, traceID)
			}
			if test.status != http.StatusOK {
				if _, _, inBody := got.failure(t); inBody != traceID {
					t.Errorf("the body names trace %q, want %q", inBody, traceID)
				}
			}
			g.Close() // waits for the handler, and so for its span
			ended := spans.Ended()
			if len(ended) != 1 {
				t.Fatalf("%d spans, want one", len(ended))
			}
			span := ended[0]
			if span.Name() != test.span || span.SpanKind() != trace.SpanKindServer || span.Parent().SpanID().String() != "b7ad6b7169203331" {
				t.Errorf("span %q of kind %v under %v, want %q, server, under the caller's", span.Name(), span.SpanKind(), span.Parent().SpanID(), test.span)
			}
		})
	}
}
