package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
)

func TestLoad_full_file_sets_every_key(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	text := `
listen: {rest: "127.0.0.1:1", grpc: "127.0.0.1:2", admin: "[::1]:3"}
backend:
  host: digits-inference.default.svc.cluster.local
  ports: [9001, 9011]
  resolveInterval: 500ms
limits: {maxRequestBytes: 1024, defaultTimeout: 1m30s, maxConnectionAge: 5m}
streaming: {firstResponseTimeout: 1s, responseTimeout: 2s, totalTimeout: 3s, writeTimeout: 4s, heartbeatInterval: 5s}
drain: {timeout: 5s}
log: {level: debug}
models:
  - name: digits
    batching: {maxSize: 64, maxDelay: 2ms}
  - name: words
administration:
  mode: Full
  restricted:
  - {apis: [logging, model-repository], header: X-Admin, value: sesame}
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
			Host: "digits-inference.default.svc.cluster.local", Ports: []int{9001, 9011}, ResolveInterval: 500 * time.Millisecond,
		},
		Limits: config.Limits{MaxRequestBytes: 1024, DefaultTimeout: 90 * time.Second, MaxConnectionAge: 5 * time.Minute},
		Streaming: config.Streaming{
			FirstResponseTimeout: time.Second, ResponseTimeout: 2 * time.Second, TotalTimeout: 3 * time.Second,
			WriteTimeout: 4 * time.Second, HeartbeatInterval: 5 * time.Second,
		},
		Drain: config.Drain{Timeout: 5 * time.Second},
		Log:   config.Log{Level: slog.LevelDebug},
		Models: []config.Model{
			{Name: "digits", Batching: &config.Batching{MaxSize: 64, MaxDelay: 2 * time.Millisecond}}, {Name: "words"},
		},
		Administration: config.Administration{
			Mode:       config.Full,
			Restricted: []config.Restriction{{APIs: []access.API{access.Logging, access.ModelRepository}, Header: "X-Admin", Value: "sesame"}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParse_only_the_host_is_required(t *testing.T) {
	got, err := config.Parse([]byte("backend: {host: inference}"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Backend.Host, want.Backend.Ports = "inference", []int{9000}
	if !reflect.DeepEqual(got, want) {
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
		"port zero":                 {"backend: {host: a, ports: [0]}", "backend.ports[0]: 0 is out of bounds; set it from 1 to 65535"},
		"no port":                   {"backend: {host: a, ports: []}", "backend.ports: has 0 entries"},
		"a port twice":              {"backend: {host: a, ports: [1, 2, 1]}", "backend.ports[2]: 1 is listed before"},
		"a host and sockets":        {"backend: {host: a, sockets: [/a]}", "backend.sockets: stands for host and ports"},
		"no socket":                 {"backend: {sockets: []}", "backend.sockets: has 0 entries"},
		"a relative socket":         {"backend: {sockets: [a.sock]}", `backend.sockets[0]: "a.sock" is not the absolute path`},
		"a socket's path too long":  {"backend: {sockets: [/" + strings.Repeat("a", 107) + "]}", "at most 107 bytes"},
		"a model without a name":    {"backend: {host: a}\nmodels: [{}]", "models[0].name: required"},
		"a model twice":             {"backend: {host: a}\nmodels: [{name: m}, {name: m}]", `models[1].name: "m" is listed before`},
		"batches of one":            {"backend: {host: a}\nmodels: [{name: m, batching: {maxSize: 1}}]", "models[0].batching.maxSize: 1 is out of bounds; set it from 2 to 1024"},
		"a delay of minutes":        {"backend: {host: a}\nmodels: [{name: m, batching: {maxSize: 2, maxDelay: 2m}}]", "models[0].batching.maxDelay"},
		"an unknown key of a model": {"backend: {host: a}\nmodels: [{name: m, batching: {size: 2}}]", `unknown key "size"`},
		"a duration without a unit": {"backend: {host: a, resolveInterval: 5}", "time.Duration"},
		"a hot resolver":            {"backend: {host: a, resolveInterval: 1ms}", "backend.resolveInterval: 1ms is out of bounds"},
		"a negative limit":          {"backend: {host: a}\nlimits: {maxRequestBytes: -1}", "limits.maxRequestBytes"},
		"a limit beyond gRPC's":     {"backend: {host: a}\nlimits: {maxRequestBytes: 4294967296}", "2147483647"},
		"no default timeout":        {"backend: {host: a}\nlimits: {defaultTimeout: 0s}", "limits.defaultTimeout"},
		"no heartbeat at all":       {"backend: {host: a}\nstreaming: {heartbeatInterval: 0s}", "streaming.heartbeatInterval: 0s is out of bounds; set it from 10ms to 1h0m0s"},
		"an endless stream":         {"backend: {host: a}\nstreaming: {totalTimeout: 48h}", "streaming.totalTimeout"},
		"an endless drain":          {"backend: {host: a}\ndrain: {timeout: 100h}", "drain.timeout"},
		"a listener without a port": {"backend: {host: a}\nlisten: {rest: localhost}", "listen.rest"},
		"an unknown log level":      {"backend: {host: a}\nlog: {level: loud}", "loud"},
		"an unknown mode":           {"backend: {host: a}\nadministration: {mode: All}", `administration.mode: "All" is neither ReadOnly nor Full`},
		"an unknown API":            {"backend: {host: a}\nadministration: {restricted: [{apis: [log], header: a, value: b}]}", `administration.restricted[0].apis: "log" is none of [health metadata`},
		"no API":                    {"backend: {host: a}\nadministration: {restricted: [{header: a, value: b}]}", "administration.restricted[0].apis: required"},
		"an API restricted twice":   {"backend: {host: a}\nadministration: {restricted: [{apis: [logging, logging], header: a, value: b}]}", `"logging" is restricted twice`},
		"a header that is none":     {"backend: {host: a}\nadministration: {restricted: [{apis: [logging], header: 'a b', value: b}]}", "administration.restricted[0].header"},
		"a restriction to nothing":  {"backend: {host: a}\nadministration: {restricted: [{apis: [logging], header: a}]}", "administration.restricted[0].value: required"},
		"memory shared with a pod":  {"backend: {host: a}\nsharedMemory: {enabled: true}", "sharedMemory.enabled: needs backend.sockets"},
		"a second document":         {"backend: {host: a}\n---\nbackend: {host: b}", "more than one YAML document"},
		"text that is not YAML":     {"backend: [", "yaml"},
		"two problems at once":      {"backend: {host: a, ports: [-1]}\ndrain: {timeout: -1s}", "drain.timeout"},
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

func TestParse_sockets_stand_for_host_and_ports(t *testing.T) {
	got, err := config.Parse([]byte("backend: {sockets: [/run/a.sock, /run/b.sock]}"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Backend.Sockets = []string{"/run/a.sock", "/run/b.sock"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBackend_names_every_worker_process(t *testing.T) {
	cases := map[string]config.Backend{
		"a.svc:9000, a.svc:9010": {Host: "a.svc", Ports: []int{9000, 9010}},
		"[::1]:9000":             {Host: "::1", Ports: []int{9000}},
		"/a.sock, /b.sock":       {Sockets: []string{"/a.sock", "/b.sock"}},
	}
	for want, backend := range cases {
		if got := backend.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPolicy_is_by_API(t *testing.T) {
	policy := config.Administration{
		Mode:       config.ReadOnly,
		Restricted: []config.Restriction{{APIs: []access.API{access.Logging, access.Trace}, Header: "X-Admin", Value: "sesame"}},
	}.Policy()
	want := access.Restriction{Header: "X-Admin", Value: "sesame"}
	if !policy.ReadOnly || len(policy.Restrictions) != 2 || policy.Restrictions[access.Logging] != want || policy.Restrictions[access.Trace] != want {
		t.Errorf("got %+v", policy)
	}
}
