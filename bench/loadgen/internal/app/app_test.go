package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/app"
	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/load"
)

func bodyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMainPrintsTheSummaryAsJSON(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	defer server.Close()
	var out bytes.Buffer
	err := app.Main(t.Context(), []string{
		"--target", server.Listener.Addr().String(), "--path", "/", "--body", bodyFile(t),
		"--clients", "4", "--requests", "100",
	}, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var summary load.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Fatalf("not JSON: %q", out.String())
	}
	if summary.Requests != 100 || summary.Errors != 0 || served.Load() != 104 {
		t.Errorf("the server saw %d requests; %+v", served.Load(), summary)
	}
	if summary.P50Microseconds <= 0 || summary.P99Microseconds < summary.P50Microseconds || summary.RequestsPerSecond <= 0 {
		t.Errorf("impossible latencies: %+v", summary)
	}
}

func TestMainRefusesMisuse(t *testing.T) {
	body := bodyFile(t)
	for _, c := range []struct {
		name    string
		args    []string
		problem string
	}{
		{"a target outside this machine", []string{"--target", "192.0.2.1:8000", "--body", body}, "load may only go to this machine"},
		{"an unknown protocol", []string{"--protocol", "soap", "--body", body}, "choose rest or grpc"},
		{"no body", []string{}, "--body"},
		{"too many clients", []string{"--clients", "1000", "--body", body}, "clients 1000"},
		{"too long", []string{"--duration", "1h", "--body", body}, "duration 1h"},
		{"an argument", []string{"now"}, `unexpected argument "now"`},
		{"an unknown flag", []string{"--forever"}, "flag provided but not defined"},
		{"nobody listens", []string{"--target", "127.0.0.1:1", "--body", body}, "first call of client 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := app.Main(t.Context(), c.args, &out, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.problem) || out.Len() > 0 {
				t.Fatalf("got %v and printed %q, want an error that says %q", err, out.String(), c.problem)
			}
		})
	}
}
