package rest

import (
	"net/http"
	"strings"
	"testing"
)

func TestHealthWithoutAReadyBackend(t *testing.T) {
	for name, b := range map[string]*pod{"no backend": nil, "a backend that loads": {notReady: true}} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, b, nil)
			if got := g.call(t, "GET", "/v2/health/live", ""); got.status != http.StatusOK {
				t.Errorf("live answers %d %s, want 200", got.status, got.body)
			}
			got := g.call(t, "GET", "/v2/health/ready", "")
			code, message, _ := got.failure(t)
			if got.status != http.StatusServiceUnavailable || code != "UNAVAILABLE" || !strings.HasPrefix(message, "no backend is ready") {
				t.Errorf("ready answers %d %s %q, want 503 UNAVAILABLE", got.status, code, message)
			}
		})
	}
}

func TestCallsWithoutABackendAreUnavailable(t *testing.T) {
	g := newGateway(t, nil, nil)
	for _, path := range []string{"/v2", "/v2/models/digits", "/v2/models/digits/ready"} {
		got := g.call(t, "GET", path, "")
		if code, _, _ := got.failure(t); got.status != http.StatusServiceUnavailable || code != "UNAVAILABLE" {
			t.Errorf("%s answers %d %s, want 503 UNAVAILABLE", path, got.status, code)
		}
	}
}
