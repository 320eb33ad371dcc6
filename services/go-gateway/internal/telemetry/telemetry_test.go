package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/connectivity"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

func spanContext(t *testing.T) context.Context {
	t.Helper()
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 15: 0x9c}, SpanID: trace.SpanID{0xb7, 7: 0x31},
	}))
}

func TestLogger_lines_carry_the_span_they_belong_to(t *testing.T) {
	var text bytes.Buffer
	logger := telemetry.NewLogger(&text, slog.LevelInfo).With("component", "test")
	logger.DebugContext(spanContext(t), "too detailed")
	logger.InfoContext(spanContext(t), "inside", "elapsed", 1500*time.Millisecond)
	logger.Info("outside")

	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %d lines, want 2: %s", len(lines), text.String())
	}
	var inside, outside map[string]any
	for i, into := range []*map[string]any{&inside, &outside} {
		if err := json.Unmarshal([]byte(lines[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]any{
		"level": "INFO", "msg": "inside", "component": "test", "elapsed": "1.5s",
		"trace_id": "0a00000000000000000000000000009c", "span_id": "b700000000000031",
	}
	for key, value := range want {
		if inside[key] != value {
			t.Errorf("%s is %v, want %v", key, inside[key], value)
		}
	}
	if _, ok := outside["trace_id"]; ok {
		t.Error("a line outside any span has a trace_id")
	}
}

func scrape(t *testing.T, metrics *telemetry.Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	return answer.Body.String()
}

func TestMetrics_show_calls_lookups_retries_and_pods(t *testing.T) {
	metrics := telemetry.NewMetrics("1.2")
	rest := metrics.Calls("rest")
	rest.InFlight(1)
	rest.Observe("/v2/models/{model}/infer", "POST", 200, "", 0.003)
	rest.Observe("/v2/models/{model}/infer", "POST", 404, "MODEL_NOT_FOUND", 0.001)
	metrics.Calls("grpc").Observe("inference.GRPCInferenceService", "ModelInfer", 0, "", 0.002)
	metrics.Resolved(2)
	metrics.ResolveFailed()
	metrics.Retried(backend.RetryDraining)
	metrics.Sent(backend.WayLane)
	pods := []backend.Status{
		{Address: "10.0.0.1:9000", Connection: connectivity.Ready, Outstanding: 3, Calls: 9, Lane: true},
		{Address: "10.0.0.2:9000", Connection: connectivity.Ready, PutAside: true},
		{Address: "10.0.0.3:9000", Connection: connectivity.TransientFailure, PutAside: true},
	}
	metrics.WatchBackends(func() []backend.Status { return pods })

	text := scrape(t, metrics)
	for _, line := range []string{
		`polyglot_gateway_build_info{version="1.2"} 1`,
		`polyglot_gateway_requests_in_flight{protocol="rest"} 1`,
		`polyglot_gateway_requests_total{code="OK",method="POST",protocol="rest",route="/v2/models/{model}/infer",status="200"} 1`,
		`polyglot_gateway_requests_total{code="MODEL_NOT_FOUND",method="POST",protocol="rest",route="/v2/models/{model}/infer",status="404"} 1`,
		`polyglot_gateway_requests_total{code="OK",method="ModelInfer",protocol="grpc",route="inference.GRPCInferenceService",status="0"} 1`,
		`polyglot_gateway_request_duration_seconds_count{method="POST",protocol="rest",route="/v2/models/{model}/infer"} 2`,
		`polyglot_gateway_resolver_lookups_total{result="ok"} 1`,
		`polyglot_gateway_resolver_lookups_total{result="error"} 1`,
		`polyglot_gateway_retries_total{reason="draining"} 1`,
		`polyglot_gateway_infer_calls_total{way="lane"} 1`,
		`polyglot_gateway_infer_calls_total{way="sampled"} 0`,
		`polyglot_gateway_backend_outstanding{backend="10.0.0.1:9000"} 3`,
		`polyglot_gateway_backend_calls_total{backend="10.0.0.1:9000"} 9`,
		`polyglot_gateway_backend_lane{backend="10.0.0.1:9000"} 1`,
		`polyglot_gateway_backend_lane{backend="10.0.0.2:9000"} 0`,
		`polyglot_gateway_backend_state{backend="10.0.0.1:9000",state="ready"} 1`,
		`polyglot_gateway_backend_state{backend="10.0.0.2:9000",state="put_aside"} 1`,
		`polyglot_gateway_backend_state{backend="10.0.0.3:9000",state="transient_failure"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(text, name) {
			t.Errorf("missing: %s", name)
		}
	}
	pods = pods[:1]
	if strings.Contains(scrape(t, metrics), "10.0.0.3") {
		t.Error("a pod that is gone is still shown")
	}
}

func TestTracing_is_off_unless_an_exporter_is_named(t *testing.T) {
	cases := map[string]struct {
		environment map[string]string
		sampled     bool
	}{
		"nothing set":                {map[string]string{}, false},
		"none":                       {map[string]string{"OTEL_TRACES_EXPORTER": "none"}, false},
		"disabled":                   {map[string]string{"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, false},
		"named":                      {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		"named, but nothing sampled": {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "always_off"}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			otel.SetTracerProvider(noop.NewTracerProvider())
			t.Setenv("OTEL_TRACES_EXPORTER", "")
			for key, value := range c.environment {
				t.Setenv(key, value)
			}
			stop, err := telemetry.StartTracing(t.Context(), "test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			_, span := otel.Tracer("test").Start(t.Context(), "span")
			if got := span.SpanContext().IsSampled(); got != c.sampled {
				t.Errorf("sampled is %v, want %v", got, c.sampled)
			}
			// Not ended: nothing is exported, so nothing needs to listen.
			if err := stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTracing_unknown_exporter_is_refused(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
	_, err := telemetry.StartTracing(t.Context(), "test", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "OTEL_") {
		t.Errorf("got %v", err)
	}
}
