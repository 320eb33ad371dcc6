package rest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBodiesAboveTheLimitAreRefused(t *testing.T) {
	const limit = 200
	g := newGateway(t, &backend{}, func(options *Options) { options.MaxRequestBytes = limit })
	padded := strings.Repeat(" ", limit-len(inferBody)) + inferBody
	dense := `{"inputs":[{"name":"x","datatype":"FP64","shape":[40],"data":[` + strings.Repeat("0,", 39) + `0]}]}`
	for name, test := range map[string]struct {
		body    io.Reader
		status  int
		message string
	}{
		"as large as allowed":           {strings.NewReader(padded), http.StatusOK, ""},
		"one byte more":                 {strings.NewReader(" " + padded), http.StatusRequestEntityTooLarge, "the request has 201 bytes, more than limits.maxRequestBytes = 200"},
		"one more of unannounced size":  {io.MultiReader(strings.NewReader(" " + padded)), http.StatusRequestEntityTooLarge, "the body is larger than limits.maxRequestBytes = 200"},
		"small text of a large message": {strings.NewReader(dense), http.StatusRequestEntityTooLarge, "the request has 345 bytes, more than limits.maxRequestBytes = 200"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+inferPath, test.body)
			if err != nil {
				t.Fatal(err)
			}
			got := g.send(t, request)
			if got.status != test.status {
				t.Fatalf("got %d %s, want %d", got.status, got.body, test.status)
			}
			if test.message == "" {
				return
			}
			if code, message, _ := got.failure(t); code != "MESSAGE_TOO_LARGE" || message != test.message {
				t.Errorf("got %s %q, want MESSAGE_TOO_LARGE %q", code, message, test.message)
			}
		})
	}
}

func TestBodyThatNeverEndsStopsAtTheDeadline(t *testing.T) {
	g := newGateway(t, &backend{}, nil)
	body, writer := io.Pipe()
	defer func() { _ = writer.Close() }() // a pipe's end never fails to close
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+inferPath, body)
	if err != nil {
		t.Fatal(err)
	}
	got := g.send(t, request, "X-Request-Timeout: 50ms")
	code, message, _ := got.failure(t)
	if got.status != http.StatusGatewayTimeout || code != "DEADLINE_EXCEEDED" || !strings.HasPrefix(message, "the deadline passed before the body was read") {
		t.Errorf("got %d %s %q", got.status, code, message)
	}
}

func TestConnectionOutlivesTheDeadlineOfItsCalls(t *testing.T) {
	g := newGateway(t, &backend{}, nil)
	for range 2 {
		if got := g.call(t, "POST", inferPath, inferBody, "X-Request-Timeout: "+time.Hour.String()); got.status != http.StatusOK {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
}
