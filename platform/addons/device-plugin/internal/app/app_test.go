package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/app"
	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/kubelettest"
	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/offer"
)

const gpu = "nvidia.com/gpu"

// process is a running Main whose log lines can be read while it runs.
type process struct {
	lines *logLines
	stop  func() error
}

// logLines is the standard error of a process, by line.
type logLines struct {
	mu     sync.Mutex
	text   bytes.Buffer
	grew   chan struct{}
	cursor int
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grew)
	l.grew = make(chan struct{})
	return l.text.Write(p)
}

// await returns the next record with that message.
func (l *logLines) await(t *testing.T, message string) map[string]any {
	t.Helper()
	deadline := time.After(kubelettest.Patience)
	for {
		l.mu.Lock()
		lines := strings.SplitAfter(l.text.String(), "\n")
		grew := l.grew
		l.mu.Unlock()
		for l.cursor < len(lines)-1 {
			var record map[string]any
			if err := json.Unmarshal([]byte(lines[l.cursor]), &record); err != nil {
				t.Fatalf("log line is not JSON: %q", lines[l.cursor])
			}
			l.cursor++
			if record["msg"] == message {
				return record
			}
		}
		select {
		case <-grew:
		case <-deadline:
			t.Fatalf("no log record %q in time:\n%s", message, strings.Join(lines, ""))
		}
	}
}

func start(t *testing.T, args ...string) process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	lines := &logLines{grew: make(chan struct{})}
	result := make(chan error, 1)
	go func() { result <- app.Main(ctx, args, lines) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	t.Cleanup(func() { _ = stop() }) // a test that cares about the result has called it
	return process{lines, stop}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestMainFollowsAnEditedConfigMapUntilItIsStopped(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	mount := mountConfigMap(t, "resource: nvidia.com/gpu\ncount: 2\n")
	p := start(t, "--config", filepath.Join(mount, "config.yaml"), "--plugin-dir", dir,
		"--node", "node-a", "--health-address", "127.0.0.1:0")
	expect(t, kubelet, 2)

	editConfigMap(t, mount, "resource: nvidia.com/gpu\ncount: 4\n")
	expect(t, kubelet, 4)

	if err := p.stop(); err != nil {
		t.Fatalf("a stopped process failed: %v", err)
	}
	if got := kubelettest.Sockets(t, dir); !slices.Equal(got, []string{"kubelet.sock"}) {
		t.Errorf("sockets left: %v", got)
	}
}

func TestMainTakesTheCountFromTheEnvironment(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	t.Setenv("NVIDIA_GPU_COUNT", "3")
	t.Setenv("NODE_NAME", "node-a")

	start(t, "--plugin-dir", dir, "--health-address", "127.0.0.1:0")

	expect(t, kubelet, 3)
}

func TestReadinessTellsWhetherTheKubeletWatches(t *testing.T) {
	dir := kubelettest.Dir(t)
	p := start(t, "--plugin-dir", dir, "--node", "node-a", "--health-address", "127.0.0.1:0")
	probes := "http://" + p.lines.await(t, "Started")["probes"].(string)
	p.lines.await(t, "Not in step with the kubelet; trying again")

	if code, body := get(t, probes+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "the kubelet does not listen") {
		t.Errorf("without a kubelet /readyz answers %d %q", code, body)
	}
	if code, _ := get(t, probes+"/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d: a restart would not bring the kubelet back", code)
	}

	kubelet := kubelettest.Start(t, dir)
	expect(t, kubelet, 2)
	p.lines.await(t, "Registered with the kubelet")
	awaitOK(t, probes+"/readyz")
}

func awaitOK(t *testing.T, url string) {
	t.Helper()
	deadline := time.Now().Add(kubelettest.Patience)
	for {
		code, body := get(t, url)
		if code == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s still answers %d %q", url, code, body)
		}
	}
}

func TestMainRefusesMisuse(t *testing.T) {
	dir := kubelettest.Dir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		count   string // NVIDIA_GPU_COUNT
		args    []string
		problem string
	}{
		{"an unknown flag", "2", []string{"--gpus", "2"}, "flag provided but not defined"},
		{"an argument", "2", []string{"--plugin-dir", dir, "2"}, `unexpected argument "2"`},
		{"a count that is no number", "2", []string{"--count", "two"}, "invalid value"},
		{"a negative count", "2", []string{"--plugin-dir", dir, "--count", "-1"}, "count -1 is not within"},
		{"a variable that is no number", "two", []string{"--plugin-dir", dir}, `NVIDIA_GPU_COUNT="two" is not a whole number`},
		{"a resource without a domain", "2", []string{"--plugin-dir", dir, "--resource", "gpu"}, "has no domain"},
		{"a file and a count", "2", []string{"--plugin-dir", dir, "--config", file, "--count", "2"}, "--config excludes"},
		{"a file and a resource", "2", []string{"--plugin-dir", dir, "--config", file, "--resource", gpu}, "--config excludes"},
		{"an empty file", "2", []string{"--plugin-dir", dir, "--config", file}, "count is missing"},
		{"no such folder", "2", []string{"--plugin-dir", dir + "/none"}, "mount the kubelet's folder there"},
		{"a folder that is a file", "2", []string{"--plugin-dir", file}, "is not a folder"},
		{"an unknown log level", "2", []string{"--log-level", "LOUD"}, "invalid value"},
		{"an unusable probe address", "2", []string{"--plugin-dir", dir, "--health-address", "nowhere"}, "choose another --health-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NVIDIA_GPU_COUNT", c.count)
			err := app.Main(t.Context(), c.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Fatalf("got %v, want an error that says %q", err, c.problem)
			}
		})
	}
}

func TestMainPrintsTheUsageWhenAsked(t *testing.T) {
	var out bytes.Buffer
	if err := app.Main(t.Context(), []string{"--help"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-resource", "-count", "-config", "-plugin-dir"} {
		if !strings.Contains(out.String(), flag) {
			t.Errorf("the usage does not show %s", flag)
		}
	}
}

func expect(t *testing.T, kubelet *kubelettest.Kubelet, count int) {
	t.Helper()
	want := offer.Offer{Resource: gpu, Count: count}.DeviceIDs("node-a")
	if got := kubelet.Next(t); got.Ended || got.Resource != gpu || !slices.Equal(got.IDs, want) {
		t.Fatalf("the kubelet learned %+v, want %d devices of %s", got, count, gpu)
	}
}

// mountConfigMap lays a file out as the kubelet mounts a ConfigMap: behind a link that is replaced at every edit.
func mountConfigMap(t *testing.T, text string) string {
	t.Helper()
	mount := t.TempDir()
	editConfigMap(t, mount, text)
	if err := os.Symlink(filepath.Join("..data", "config.yaml"), filepath.Join(mount, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	return mount
}

func editConfigMap(t *testing.T, mount, text string) {
	t.Helper()
	version := filepath.Join(mount, fmt.Sprintf("..version%d", time.Now().UnixNano()))
	next := filepath.Join(mount, "..data_tmp")
	if err := errors.Join(
		os.Mkdir(version, 0o700),
		os.WriteFile(filepath.Join(version, "config.yaml"), []byte(text), 0o600),
		os.Symlink(filepath.Base(version), next),
		os.Rename(next, filepath.Join(mount, "..data"))); err != nil {
		t.Fatal(err)
	}
}
