package apierr

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/trace"
)

// body is what every failed REST call is answered with.
type body struct {
	Error   string `json:"error"`
	Code    string `json:"code"`
	TraceID string `json:"traceId"`
}

// Body is the JSON text of a failed REST call; traceID is "" outside a trace.
func (e *Error) Body(traceID string) []byte {
	text, _ := json.Marshal(body{Error: e.Message, Code: e.Code, TraceID: traceID}) // strings always encode
	return text
}

// Write answers a REST call with err's HTTP status, body and, where trying again may help, the header Retry-After. A caller that is gone cannot be told, so a failed write has no one to go to.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	failure := From(err)
	w.Header().Set("Content-Type", "application/json")
	if failure.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(failure.RetryAfter.Seconds()))))
	}
	w.WriteHeader(failure.HTTP)
	_, _ = w.Write(failure.Body(TraceID(r.Context())))
}

// TraceID is the id of the trace that a call belongs to, 32 hexadecimal digits, or "" outside a trace.
func TraceID(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}
