package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// running is a gateway that serves, with clients for each of its ports.
type running struct {
	*process
	rest, admin string // base URLs
	client      pb.GRPCInferenceServiceClient
	terminate   context.CancelFunc
	ended       chan error
}

func settingsFor(host string, port int) config.Config {
	settings := config.Default()
	settings.Listen = config.Listen{REST: "127.0.0.1:0", GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	settings.Backend = config.Backend{Host: host, Ports: []int{port}, ResolveInterval: 100 * time.Millisecond}
	return settings
}

// start runs a gateway in front of the pod and waits until it can reach it.
func start(t *testing.T, pod *backendtest.Pod, change func(*config.Config)) *running {
	t.Helper()
	settings := settingsFor(pod.IP, pod.Port)
	if change != nil {
		change(&settings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, err := open(ctx, settings, telemetry.NewMetrics("test"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.listeners.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{
		process: p, client: pb.NewGRPCInferenceServiceClient(conn), terminate: cancel, ended: make(chan error, 1),
		rest: "http://" + p.listeners.rest.Addr().String(), admin: "http://" + p.listeners.admin.Addr().String(),
	}
	go func() { r.ended <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-r.ended, conn.Close()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	if _, err := r.client.ServerMetadata(t.Context(), &pb.ServerMetadataRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return r
}

// wait returns what run returned, and leaves it for the clean-up too.
func (r *running) wait() error {
	err := <-r.ended
	r.ended <- err
	return err
}

func status(t *testing.T, method, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// poll waits until the condition holds, and fails the test when that takes too long.
func poll(t *testing.T, condition func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-limit:
			t.Error("what was awaited did not happen")
			return
		case <-tick.C:
		}
	}
}
