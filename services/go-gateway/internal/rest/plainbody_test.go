package rest

import (
	"net/http"
	"testing"
)

func TestBodiesThatAreMoreThanJSONAreRefused(t *testing.T) {
	g := newGateway(t, &backend{}, nil)
	for name, test := range map[string]struct {
		header, code, message string
		status                int
		accepted              string
	}{
		"gzip":           {"Content-Encoding: gzip", "UNSUPPORTED_CODING", `Content-Encoding "gzip" is not supported; send the body as it is`, http.StatusUnsupportedMediaType, "identity"},
		"several":        {"Content-Encoding: identity, br", "UNSUPPORTED_CODING", `Content-Encoding "identity, br" is not supported; send the body as it is`, http.StatusUnsupportedMediaType, "identity"},
		"binary tensors": {"Inference-Header-Content-Length: 80", "UNSUPPORTED", "the binary tensor extension (Inference-Header-Content-Length) is not supported by this gateway; send JSON data or call by gRPC", http.StatusNotImplemented, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.call(t, "POST", inferPath, inferBody, test.header)
			code, message, _ := got.failure(t)
			if got.status != test.status || code != test.code || message != test.message || got.header.Get("Accept-Encoding") != test.accepted {
				t.Errorf("got %d %s %q, accepting %q", got.status, code, message, got.header.Get("Accept-Encoding"))
			}
		})
	}
}

func TestJSONIsReadWhateverTheHeadersCallIt(t *testing.T) {
	g := newGateway(t, &backend{}, nil)
	for _, header := range []string{"Content-Encoding: Identity", "Content-Type: application/octet-stream", "Content-Type: text/plain", "Accept: */*"} {
		if got := g.call(t, "POST", inferPath, inferBody, header); got.status != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", header, got.status, got.body)
		}
	}
}
