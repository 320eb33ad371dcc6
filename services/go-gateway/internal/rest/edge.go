package rest

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// endpoint serves a call: it returns the JSON text of the answer, or an error. Of w it may touch the headers only.
type endpoint func(w http.ResponseWriter, r *http.Request) ([]byte, error)

// edge is where a call's error becomes an answer, a log line and a metric, once each.
func (s *server) edge(route string, serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		s.Metrics.InFlight(1)
		defer s.Metrics.InFlight(-1)

		status, code := http.StatusOK, ""
		text, err := serve(w, r)
		if err != nil {
			apierr.Write(w, r, err)
		} else {
			err = answer(w, text)
		}
		if err != nil {
			failure := apierr.From(err)
			status, code = failure.HTTP, failure.Code
			s.logFailure(r, route, failure, time.Since(start))
		}
		s.Metrics.Observe(route, knownMethod(r), status, code, time.Since(start).Seconds())
	})
}

func (s *server) logFailure(r *http.Request, route string, failure *apierr.Error, elapsed time.Duration) {
	attributes := []slog.Attr{
		slog.String("route", route),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", failure.HTTP),
		slog.String("code", failure.Code),
		slog.String("error", failure.Message),
		slog.Duration("elapsed", elapsed),
	}
	if id := r.Header.Get(requestIDHeader); id != "" {
		attributes = append(attributes, slog.String("requestId", id))
	}
	if cause := failure.Unwrap(); cause != nil && failure.Code == apierr.Internal {
		attributes = append(attributes, slog.String("cause", cause.Error()))
	}
	s.Logger.LogAttrs(r.Context(), failure.LogLevel(), "Failed call", attributes...)
}

// answer writes the JSON text. It fails only where the caller is gone, and then the call counts as cancelled.
func answer(w http.ResponseWriter, text []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if _, err := w.Write(text); err != nil {
		return apierr.New(apierr.Cancelled, "the caller went away while the answer was sent: %w", err)
	}
	return nil
}
