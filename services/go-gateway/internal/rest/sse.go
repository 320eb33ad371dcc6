package rest

import (
	"bytes"
	"net/http"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// eventWriter writes server-sent events, each at once: https://html.spec.whatwg.org/multipage/server-sent-events.html
type eventWriter struct {
	w          http.ResponseWriter
	connection *http.ResponseController
	timeout    time.Duration // of one write; a reader that is slower is cut off
	begun      bool
	text       []byte // of the last event, for reuse
}

func newEventWriter(w http.ResponseWriter, timeout time.Duration) *eventWriter {
	return &eventWriter{w: w, connection: http.NewResponseController(w), timeout: timeout}
}

// event sends one event. The first one begins the answer.
func (e *eventWriter) event(data []byte) error {
	e.text = appendEvent(e.text[:0], data)
	return e.send()
}

// ping sends a comment, which keeps proxies from closing a connection on which nothing happens.
func (e *eventWriter) ping() error {
	e.text = append(e.text[:0], ": ping\n\n"...)
	return e.send()
}

func (e *eventWriter) send() error {
	e.begin()
	if err := e.connection.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil {
		return err
	}
	if _, err := e.w.Write(e.text); err != nil {
		return e.gone(err)
	}
	if err := e.connection.Flush(); err != nil {
		return e.gone(err)
	}
	return nil
}

// begin sets the headers of the answer.
func (e *eventWriter) begin() {
	if e.begun {
		return
	}
	e.begun = true
	header := e.w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Accel-Buffering", "no") // nginx
	e.w.WriteHeader(http.StatusOK)
}

// end leaves the connection fit for the next call.
func (e *eventWriter) end() error {
	e.begin()
	return e.connection.SetWriteDeadline(time.Time{})
}

func (e *eventWriter) gone(err error) error {
	return apierr.New(apierr.Cancelled, "the caller went away, or took no event for streaming.writeTimeout = %v: %w", e.timeout, err)
}

// appendEvent appends an event of that data; each line of data is a field of its own.
func appendEvent(dst, data []byte) []byte {
	for {
		dst = append(dst, "data: "...)
		end := bytes.IndexAny(data, "\r\n")
		if end < 0 {
			return append(append(dst, data...), "\n\n"...)
		}
		dst = append(append(dst, data[:end]...), '\n')
		if bytes.HasPrefix(data[end:], []byte("\r\n")) {
			end++
		}
		data = data[end+1:]
	}
}
