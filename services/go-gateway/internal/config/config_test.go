package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
)

func TestLoad_full_file_sets_every_key(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	text := `
listen: {rest: "127.0.0.1:1", grpc: "127.0.0.1:2", admin: "[::1]:3"}
backend:
  host: digits-inference.default.svc.cluster.local
  port: 9001
  resolveInterval: 500ms
limits: {maxRequestBytes: 1024, defaultTimeout: 1m30s}
drain: {timeout: 5s}
log: {level: debug}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Listen: config.Listen{REST: "127.0.0.1:1", GRPC: "127.0.0.1:2", Admin: "[::1]:3"},
		Backend: config.Backend{
			Host: "digits-inference.default.svc.cluster.local", Port: 9001, ResolveInterval: 500 * time.Millisecond,
		},
		Limits: config.Limits{MaxRequestBytes: 1024, DefaultTimeout: 90 * time.Second},
		Drain:  config.Drain{Timeout: 5 * time.Second},
		Log:    config.Log{Level: slog.LevelDebug},
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParse_only_the_host_is_required(t *testing.T) {
	got, err := config.Parse([]byte("backend: {host: inference}"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Backend.Host = "inference"
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParse_names_what_is_wrong(t *testing.T) {
	cases := map[string]struct{ text, want string }{
		"an empty file":             {"", "backend.host: required"},
		"an unknown key":            {"backend: {host: a, prot: 1}", `line 1: unknown key "prot"`},
		"an unknown section":        {"backend: {host: a}\nextra: 1", `line 2: unknown key "extra"`},
		"a host with a port":        {`backend: {host: "a:9000"}`, "backend.host"},
		"a host with a space":       {`backend: {host: "a b"}`, "backend.host"},
		"port zero":                 {"backend: {host: a, port: 0}", "backend.port: 0 is out of bounds; set it from 1 to 65535"},
		"a duration without a unit": {"backend: {host: a, resolveInterval: 5}", "time.Duration"},
		"a hot resolver":            {"backend: {host: a, resolveInterval: 1ms}", "backend.resolveInterval: 1ms is out of bounds"},
		"a negative limit":          {"backend: {host: a}\nlimits: {maxRequestBytes: -1}", "limits.maxRequestBytes"},
		"a limit beyond gRPC's":     {"backend: {host: a}\nlimits: {maxRequestBytes: 4294967296}", "2147483647"},
		"no default timeout":        {"backend: {host: a}\nlimits: {defaultTimeout: 0s}", "limits.defaultTimeout"},
		"an endless drain":          {"backend: {host: a}\ndrain: {timeout: 100h}", "drain.timeout"},
		"a listener without a port": {"backend: {host: a}\nlisten: {rest: localhost}", "listen.rest"},
		"an unknown log level":      {"backend: {host: a}\nlog: {level: loud}", "loud"},
		"a second document":         {"backend: {host: a}\n---\nbackend: {host: b}", "more than one YAML document"},
		"text that is not YAML":     {"backend: [", "yaml"},
		"two problems at once":      {"backend: {host: a, port: -1}\ndrain: {timeout: -1s}", "drain.timeout"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestLoad_missing_file_says_which_flag_to_set(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "absent.yaml"))
	if err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v", err)
	}
}

func TestAuthority_is_host_and_port_without_the_root_dot(t *testing.T) {
	cases := map[string]string{
		"digits.svc.cluster.local":  "digits.svc.cluster.local:9000",
		"digits.svc.cluster.local.": "digits.svc.cluster.local:9000",
		"::1":                       "[::1]:9000",
	}
	for host, want := range cases {
		if got := (config.Backend{Host: host, Port: 9000}).Authority(); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
}
