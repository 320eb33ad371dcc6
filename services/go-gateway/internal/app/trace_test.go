package app

import (
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	traceparent  = "00-" + callersTrace + "-" + callersSpan + "-01"
	unsampled    = "00-" + callersTrace + "-" + callersSpan + "-00"
)

// TestTrace_caller_gateway_and_pod_are_one_chain calls by both protocols: caller → server span → client span → pod.
func TestTrace_caller_gateway_and_pod_are_one_chain(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	g := start(t, pod, nil)
	pod.Metadata() // of start's own call

	calls := map[string]func(t *testing.T){
		"rest": func(t *testing.T) {
			t.Helper()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.rest+"/v2/models/m/infer", strings.NewReader(inferBody))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Traceparent", traceparent)
			request.Header.Set("Baggage", "tenant=a")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
				t.Fatal(response.Status, err)
			}
		},
		"grpc": func(t *testing.T) {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent, "baggage", "tenant=a")
			if _, err := g.client.ModelInfer(ctx, &pb.ModelInferRequest{}); err != nil {
				t.Fatal(err)
			}
		},
	}
	for protocol, call := range calls {
		t.Run(protocol, func(t *testing.T) {
			spans.Reset()
			call(t)
			seen := pod.Metadata()
			if got := seen.Get("baggage"); len(got) != 1 || got[0] != "tenant=a" {
				t.Errorf("the pod got baggage %v", got)
			}
			byKind := map[trace.SpanKind]tracetest.SpanStub{}
			poll(t, func() bool {
				for _, span := range spans.GetSpans() {
					if span.SpanContext.TraceID().String() == callersTrace { // start's own call may end late
						byKind[span.SpanKind] = span
					}
				}
				return len(byKind) == 2
			})
			server, client := byKind[trace.SpanKindServer], byKind[trace.SpanKindClient]
			if server.Parent.SpanID().String() != callersSpan {
				t.Errorf("the server span's parent is %v", server.Parent)
			}
			if client.Parent.SpanID() != server.SpanContext.SpanID() {
				t.Errorf("the client span's parent is %v, not the server span", client.Parent.SpanID())
			}
			want := "00-" + callersTrace + "-" + client.SpanContext.SpanID().String() + "-01"
			if got := seen.Get("traceparent"); len(got) != 1 || got[0] != want {
				t.Errorf("the pod got traceparent %v, want %s", got, want)
			}
		})
	}
}

func TestTrace_unsampled_by_the_caller_goes_on_and_is_not_recorded(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	g := start(t, pod, nil)
	pod.Metadata() // of start's own call

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.rest+"/v2/models/m/infer", strings.NewReader(inferBody))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Traceparent", unsampled)
	request.Header.Set("Baggage", "tenant=a")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK || response.Header.Get("X-Trace-Id") != callersTrace {
		t.Fatal(response.Status, response.Header, err)
	}
	seen := pod.Metadata()
	if got := seen.Get("baggage"); len(got) != 1 || got[0] != "tenant=a" {
		t.Errorf("the pod got baggage %v", got)
	}
	got := strings.Join(seen.Get("traceparent"), " ")
	if !strings.HasPrefix(got, "00-"+callersTrace+"-") || !strings.HasSuffix(got, "-00") {
		t.Errorf("the pod got traceparent %q, want trace %s, not sampled", got, callersTrace)
	}
	for _, span := range spans.GetSpans() {
		if span.SpanContext.TraceID().String() == callersTrace {
			t.Errorf("span %q of an unsampled trace was recorded", span.Name)
		}
	}
}
