package app

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// dialer counts the connections that one caller opens.
type dialer struct{ opened atomic.Int64 }

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.opened.Add(1)
	return new(net.Dialer).DialContext(ctx, network, address)
}

func TestConnections_that_are_old_are_opened_anew_and_no_call_fails(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	g := start(t, pod, func(c *config.Config) { c.Limits.MaxConnectionAge = 200 * time.Millisecond })
	for name, open := range map[string]func(*dialer) func(context.Context) error{
		"HTTP/1.1": func(d *dialer) func(context.Context) error { return g.restCaller(t, d, (*http.Protocols).SetHTTP1) },
		"HTTP/2": func(d *dialer) func(context.Context) error {
			return g.restCaller(t, d, (*http.Protocols).SetUnencryptedHTTP2)
		},
		"gRPC": func(d *dialer) func(context.Context) error { return g.grpcCaller(t, d) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dialed dialer
			call, calls := open(&dialed), int64(0)
			for began := time.Now(); dialed.opened.Load() < 4; calls++ {
				if err := call(t.Context()); err != nil {
					t.Fatalf("call %d failed: %v", calls, err)
				}
				if time.Since(began) > 10*time.Second {
					t.Fatalf("%d connections in 10 s of calls", dialed.opened.Load())
				}
			}
			if calls <= dialed.opened.Load() {
				t.Errorf("%d calls took %d connections: none was used again", calls, dialed.opened.Load())
			}
		})
	}
}

func TestConnections_are_counted_by_protocol(t *testing.T) {
	g := start(t, backendtest.Start(t, nil, "127.0.0.1")[0], nil) // which calls over gRPC until that works
	if _, err := infer(t.Context(), http.DefaultClient, g.rest); err != nil {
		t.Fatal(err)
	}
	var metrics strings.Builder
	scrape(t, g.admin+"/metrics", &metrics)
	for _, protocol := range []string{"rest", "grpc"} {
		if one := `polyglot_gateway_connections_accepted_total{protocol="` + protocol + `"} 1`; !strings.Contains(metrics.String(), one) {
			t.Errorf("the metrics lack %s", one)
		}
	}
}

// restCaller infers over one version of HTTP, and keeps its connection for as long as it may.
func (r *running) restCaller(t *testing.T, dialed *dialer, speak func(*http.Protocols, bool)) func(context.Context) error {
	t.Helper()
	protocols := new(http.Protocols)
	speak(protocols, true)
	client := &http.Client{Transport: &http.Transport{DialContext: dialed.dial, Protocols: protocols}}
	t.Cleanup(client.CloseIdleConnections)
	return func(ctx context.Context) error {
		_, err := infer(ctx, client, r.rest)
		return err
	}
}

func (r *running) grpcCaller(t *testing.T, dialed *dialer) func(context.Context) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.listeners.grpc.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dialed.dial(ctx, "tcp", address) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := pb.NewGRPCInferenceServiceClient(conn)
	return func(ctx context.Context) error {
		_, err := client.ModelInfer(ctx, &pb.ModelInferRequest{})
		return err
	}
}
