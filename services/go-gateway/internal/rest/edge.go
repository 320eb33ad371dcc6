package rest

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// handler serves a call: it writes the answer, or returns an error. An error after the answer has begun is logged and
// counted, and no longer answered.
type handler func(w http.ResponseWriter, r *http.Request) error

// endpoint returns the JSON text of the answer, or an error. Of w it may touch the headers only.
type endpoint func(w http.ResponseWriter, r *http.Request) ([]byte, error)

// inJSON makes a handler of an endpoint.
func inJSON(serve endpoint) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		text, err := serve(w, r)
		if err != nil {
			return err
		}
		return answer(w, "application/json", text)
	}
}

// edge is where a call's error becomes an answer, a log line and a metric, once each.
func (s *server) edge(route string, serve handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		s.Metrics.InFlight(1)
		defer s.Metrics.InFlight(-1)

		status, code := http.StatusOK, ""
		outgoing := &answerWriter{ResponseWriter: w}
		err := serve(outgoing, r)
		begun := outgoing.status != 0
		if err != nil {
			failure := apierr.From(err)
			status, code = failure.HTTP, failure.Code
			if !begun {
				apierr.Write(outgoing, r, failure)
			}
			s.logFailure(r, route, failure, time.Since(start))
		}
		noteAnswer(r, outgoing, code)
		s.Metrics.Observe(route, knownMethod(r), status, code, time.Since(start).Seconds())
		if begun && errors.Is(err, errPanicked) {
			panic(http.ErrAbortHandler) // cuts the connection: an answer that broke off must not look whole
		}
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

// answerWriter notes what of the answer was sent.
type answerWriter struct {
	http.ResponseWriter
	status int // 0: the answer has not begun
	size   int // of the body
}

func (w *answerWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(text []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(text)
	w.size += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// answer writes a text and the tensors behind it. It fails only where the caller is gone, and then the call counts as
// cancelled.
func answer(w http.ResponseWriter, contentType string, text []byte, tensors ...[]byte) error {
	header := w.Header()
	header["Content-Type"] = []string{contentType}
	header["Content-Length"] = []string{strconv.Itoa(size(text, tensors))}
	return sent(writeAll(w, text, tensors))
}

func size(text []byte, tensors [][]byte) int {
	total := len(text)
	for _, tensor := range tensors {
		total += len(tensor)
	}
	return total
}

func writeAll(w io.Writer, text []byte, tensors [][]byte) error {
	_, err := w.Write(text)
	for _, tensor := range tensors {
		if err == nil {
			_, err = w.Write(tensor)
		}
	}
	return err
}

// sent says what a failed write of the answer means.
func sent(err error) error {
	if err != nil {
		return apierr.New(apierr.Cancelled, "the caller went away while the answer was sent: %w", err)
	}
	return nil
}
