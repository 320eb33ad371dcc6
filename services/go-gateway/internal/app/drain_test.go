package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const inferBody = `{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}`

// infer makes one REST call. It returns whether the gateway asked to connect elsewhere next time.
func infer(ctx context.Context, client *http.Client, base string) (leave bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v2/models/m/infer", strings.NewReader(inferBody))
	if err != nil {
		return false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return response.Close, errors.Join(err, response.Body.Close())
}

// held is a pod whose calls wait until they are released.
func held(t *testing.T) (pod *backendtest.Pod, arrived, release chan struct{}) {
	t.Helper()
	arrived, release = make(chan struct{}, 100), make(chan struct{})
	pod = backendtest.Start(t, func(p *backendtest.Pod) {
		p.Infer = func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			arrived <- struct{}{}
			select {
			case <-release:
				return p.Echo(request), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}, "127.0.0.1")[0]
	return pod, arrived, release
}

func TestDrain_running_calls_finish_while_readiness_says_no(t *testing.T) {
	pod, arrived, release := held(t)
	g := start(t, pod, nil)
	if got := status(t, http.MethodGet, g.admin+"/readyz"); got != http.StatusOK {
		t.Fatalf("readyz before the drain: %d", got)
	}
	results := make(chan error, 20)
	for range 10 {
		go func() {
			_, err := infer(t.Context(), http.DefaultClient, g.rest)
			results <- err
		}()
		go func() {
			_, err := g.client.ModelInfer(t.Context(), &pb.ModelInferRequest{})
			results <- err
		}()
	}
	for range 20 {
		<-arrived
	}
	g.terminate()
	poll(t, g.draining.Load)
	if got := status(t, http.MethodGet, g.admin+"/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz during the drain: %d", got)
	}
	if got := status(t, http.MethodGet, g.admin+"/healthz"); got != http.StatusOK {
		t.Errorf("healthz during the drain: %d", got)
	}
	close(release)
	for range 20 {
		if err := <-results; err != nil {
			t.Errorf("a running call failed: %v", err)
		}
	}
	if err := g.wait(); err != nil {
		t.Error(err)
	}
}

func TestDrain_calls_that_outlast_it_are_cut_off(t *testing.T) {
	pod, arrived, _ := held(t)
	g := start(t, pod, func(c *config.Config) { c.Drain.Timeout = 200 * time.Millisecond })
	failed := make(chan error, 1)
	go func() {
		_, err := g.client.ModelInfer(t.Context(), &pb.ModelInferRequest{})
		failed <- err
	}()
	<-arrived
	begin := time.Now()
	g.terminate()
	if err := g.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the drain took %v, its limit is 200ms", took)
	}
	if err := <-failed; grpcstatus.Code(err) != codes.Unavailable && grpcstatus.Code(err) != codes.Canceled {
		t.Errorf("the call got %v", err)
	}
}

// TestDrain_under_load_fails_no_call plays a rollout: a second gateway is there, and callers whose connection is closed make
// their next call to it, as a Service does for them.
func TestDrain_under_load_fails_no_call(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	leaving, staying := start(t, pod, nil), start(t, pod, nil)

	stop := make(chan struct{})
	var callers sync.WaitGroup
	counts := make([]int, 8)
	for i := range counts {
		restCaller := i%2 == 0
		callers.Go(func() {
			call, closeIdle := restLoad(leaving, staying)
			if !restCaller {
				call, closeIdle = grpcLoad(t, leaving, staying)
			}
			defer closeIdle()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := call(t.Context()); err != nil {
					t.Errorf("call %d of caller %d failed: %v", counts[i], i, err)
					return
				}
				counts[i]++
			}
		})
	}
	before := waitForCalls(t, pod, 200)
	leaving.terminate()
	if err := leaving.wait(); err != nil {
		t.Error(err)
	}
	waitForCalls(t, pod, before+200)
	close(stop)
	callers.Wait()
	if slices.Contains(counts, 0) {
		t.Errorf("some callers made no call: %v", counts)
	}
}

// waitForCalls polls until the load has come that far.
func waitForCalls(t *testing.T, pod *backendtest.Pod, atLeast int64) int64 {
	t.Helper()
	poll(t, func() bool { return pod.Calls() >= atLeast })
	return pod.Calls()
}

// restLoad calls the leaving gateway over one connection until that is closed by `Connection: close`, then the other.
func restLoad(leaving, staying *running) (call func(context.Context) error, closeIdle func()) {
	client := &http.Client{Transport: &http.Transport{}}
	base := leaving.rest
	return func(ctx context.Context) error {
		leave, err := infer(ctx, client, base)
		if leave {
			base = staying.rest
		}
		return err
	}, client.CloseIdleConnections
}

// grpcLoad is a channel over both gateways, as a client has one over a Service.
func grpcLoad(t *testing.T, leaving, staying *running) (call func(context.Context) error, closeIdle func()) {
	t.Helper()
	pods := manual.NewBuilderWithScheme("gateways")
	pods.InitialState(resolver.State{Addresses: []resolver.Address{
		{Addr: leaving.listeners.grpc.Addr().String()}, {Addr: staying.listeners.grpc.Addr().String()},
	}})
	conn, err := grpc.NewClient("gateways:///all", grpc.WithResolvers(pods),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
	}
	client := pb.NewGRPCInferenceServiceClient(conn)
	return func(ctx context.Context) error {
		_, err := client.ModelInfer(ctx, &pb.ModelInferRequest{})
		return err
	}, func() { _ = conn.Close() }
}
