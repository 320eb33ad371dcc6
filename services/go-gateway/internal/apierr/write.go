package apierr

import (
	"encoding/json"
	"net/http"

	"go.opentelemetry.io/otel/trace"
)

// body is the JSON text of every failed REST call.
type body struct {
	Error   string `json:"error"`
	Code    string `json:"code"`
	TraceID string `json:"traceId"`
}

// Write answers a REST call with err's HTTP status and the body {"error", "code", "traceId"}; traceId is empty outside a
// trace. A caller that is gone cannot be told, so a failed write has no one to go to.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	failure := From(err)
	text, _ := json.Marshal(body{Error: failure.Message, Code: failure.Code, TraceID: TraceID(r)}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(failure.HTTP)
	_, _ = w.Write(text)
}

// TraceID is the id of the trace that the request belongs to, 32 hexadecimal digits, or "" outside a trace.
func TraceID(r *http.Request) string {
	span := trace.SpanContextFromContext(r.Context())
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}
