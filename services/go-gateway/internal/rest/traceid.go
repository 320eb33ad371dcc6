package rest

import (
	"net/http"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

const traceIDHeader = "X-Trace-Id"

// withTraceID names the call's trace in the answer's header, success or not.
func withTraceID(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if id := apierr.TraceID(r.Context()); id != "" {
			w.Header()[traceIDHeader] = []string{id}
		}
		return next(w, r)
	}
}
