package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// serviceName is what spans are from where OTEL_SERVICE_NAME doesn't say.
const serviceName = "polyglot-gateway"

// StartTracing sets up OpenTelemetry from the standard OTEL_* environment and returns what flushes and ends it.
//
// Unlike the specification's default, which is OTLP to localhost, no exporter named means none. W3C trace context and
// baggage are carried on either way. The sampler comes from OTEL_TRACES_SAMPLER, read by the SDK.
func StartTracing(ctx context.Context, version string, logger *slog.Logger) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Error("OpenTelemetry failed", "error", err) }))
	otel.SetLogger(logr.FromSlogHandler(logger.Handler()))
	if !exporterNamed() {
		return func(context.Context) error { return nil }, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w; check the OTEL_* environment variables", err)
	}
	identity, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName(serviceName), semconv.ServiceVersion(version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w; check OTEL_RESOURCE_ATTRIBUTES", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(identity))
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}

func exporterNamed() bool {
	name := strings.TrimSpace(os.Getenv("OTEL_TRACES_EXPORTER"))
	return name != "" && name != "none" && !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
}
