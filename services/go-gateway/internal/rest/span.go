package rest

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

const tracerName = "github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/rest"

// withSpan serves a call in a span that goes on with the caller's trace. Attributes are made for a recorded span alone, because
// mostly one call in a hundred is: otelhttp, which makes them for all, cost a tenth of a call's CPU time.
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
func withSpan(route string, next http.Handler) http.Handler {
	tracer, options := otel.Tracer(tracerName), []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, knownMethod(r)+" "+route, options...)
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(asked(r, route)...)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// asked describes a request.
func asked(r *http.Request, route string) []attribute.KeyValue {
	host, port := splitAddress(r.Host)
	peer, peerPort := splitAddress(r.RemoteAddr)
	client, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if client == "" {
		client = peer
	}
	_, version, _ := strings.Cut(r.Proto, "/")
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(knownMethod(r)), semconv.URLScheme("http"), semconv.URLPath(r.URL.Path),
		semconv.ServerAddress(host), semconv.ClientAddress(client), semconv.NetworkPeerAddress(peer), semconv.NetworkPeerPort(peerPort),
		semconv.NetworkProtocolVersion(version),
	}
	if port > 0 {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	if route != unmatchedRoute {
		attributes = append(attributes, semconv.HTTPRoute(route))
	}
	if r.Method != knownMethod(r) {
		attributes = append(attributes, semconv.HTTPRequestMethodOriginal(r.Method))
	}
	if agent := r.UserAgent(); agent != "" {
		attributes = append(attributes, semconv.UserAgentOriginal(agent))
	}
	if r.ContentLength > 0 {
		attributes = append(attributes, semconv.HTTPRequestBodySize(int(r.ContentLength)))
	}
	return attributes
}

// splitAddress splits host:port; the port is 0 where there is none.
func splitAddress(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0
	}
	port, _ = strconv.Atoi(text) // 0 where it is a name
	return host, port
}

// noteAnswer tells the call's span what was sent, and the error code, "" on success.
func noteAnswer(r *http.Request, sent *answerWriter, code string) {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(sent.status), semconv.HTTPResponseBodySize(sent.size))
	if code != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(code))
	}
	if sent.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}
