package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
)

// lockedBuffer is a stderr that can be read while the gateway writes.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const freePorts = `listen: {rest: "127.0.0.1:0", grpc: "127.0.0.1:0", admin: "127.0.0.1:0"}` + "\n"

func TestMain_misuse_is_refused_with_what_to_do(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cases := map[string]struct {
		args []string
		want string
	}{
		"no configuration": {nil, "--config is required"},
		"an unknown flag":  {[]string{"--port", "1"}, "flag provided but not defined"},
		"an argument":      {[]string{"serve"}, `unexpected argument "serve"`},
		"a missing file":   {[]string{"--config", "/nonexistent"}, "pass an existing file"},
		"an unknown key":   {[]string{"--config", configFile(t, "backends: {}")}, `unknown key "backends"`},
		"a port that is in use": {
			[]string{"--config", configFile(t, `listen: {rest: "127.0.0.1:0", grpc: "`+taken.Addr().String()+`"}`+"\nbackend: {host: localhost}")},
			"listen.grpc: the port of " + taken.Addr().String() + " is taken by another process",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := Gateway{Version: "test"}.Main(t.Context(), c.args, new(lockedBuffer))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestMain_version_and_help_are_no_failure(t *testing.T) {
	for flag, want := range map[string]string{"--version": "gateway 1.2.3\n", "--help": "-config"} {
		var stderr lockedBuffer
		if err := (Gateway{Version: "1.2.3"}).Main(t.Context(), []string{flag}, &stderr); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: got %q", flag, stderr.String())
		}
	}
}

func TestMain_serves_until_it_is_told_to_stop(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	settings, err := json.Marshal(map[string]any{"host": "localhost", "ports": []int{pod.Port}})
	if err != nil {
		t.Fatal(err)
	}
	path := configFile(t, freePorts+"backend: "+string(settings)+"\ndrain: {timeout: 1s}")
	ctx, terminate := context.WithCancel(t.Context())
	defer terminate()
	var stderr lockedBuffer
	ended := make(chan error, 1)
	go func() { ended <- Gateway{Version: "test"}.Main(ctx, []string{"--config", path}, &stderr) }()

	var started struct{ Msg, REST, Admin, Backend string }
	poll(t, func() bool {
		for line := range strings.Lines(stderr.String()) {
			if json.Unmarshal([]byte(line), &started) == nil && started.Msg == "Started" {
				return true
			}
		}
		return false
	})
	poll(t, func() bool {
		return status(t, http.MethodGet, "http://"+started.REST+"/v2/health/ready") == http.StatusOK
	})
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if got := status(t, http.MethodGet, "http://"+started.Admin+path); got != http.StatusOK {
			t.Errorf("%s: %d", path, got)
		}
	}
	terminate()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if !strings.Contains(stderr.String(), `"msg":"Stopped"`) {
		t.Error("the log doesn't end with Stopped")
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", started.REST); err == nil {
		t.Error("the port is still open")
	}
}

func TestMain_ends_in_order_with_its_standard_input(t *testing.T) {
	stdin, parent := io.Pipe()
	var stderr lockedBuffer
	ended := make(chan error, 1)
	config := configFile(t, freePorts+"backend: {host: localhost}\ndrain: {timeout: 1s}")
	go func() {
		ended <- Gateway{Version: "test", Stdin: stdin}.Main(t.Context(), []string{"--config", config, "--end-with-stdin"}, &stderr)
	}()
	poll(t, func() bool { return strings.Contains(stderr.String(), `"msg":"Started"`) })
	if err := parent.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || !strings.Contains(stderr.String(), `"msg":"Draining"`) {
		t.Errorf("got %v and the log %s", err, stderr.String())
	}
}

func TestRun_a_listener_that_breaks_ends_the_gateway_with_its_error(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	g := start(t, pod, nil)
	if err := g.listeners.admin.Close(); err != nil {
		t.Fatal(err)
	}
	err := <-g.ended
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	g.ended <- nil // the clean-up expects a gateway that ended well
}

func TestREST_speaks_http2_without_tls(t *testing.T) {
	g := start(t, backendtest.Start(t, nil, "127.0.0.1")[0], nil)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.rest+"/v2/health/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
		t.Errorf("got %s %s, %v", response.Proto, response.Status, err)
	}
}
