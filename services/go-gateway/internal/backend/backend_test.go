package backend_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const service = "digits-inference.default.svc.cluster.local"

// noticeWithin is how soon pods that come and go must be noticed.
const noticeWithin = 2 * time.Second

// counts is an Observer that a test reads.
type counts struct {
	mu      sync.Mutex
	retries []string
	failed  int
	lookups int
	held    []bool
	sent    []string
}

func (c *counts) Sent(way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, way)
}

// Ways lists how the calls of ModelInfer were sent.
func (c *counts) Ways() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

func (c *counts) Held(connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, connected)
}

// Waited lists, for each held call that has ended, whether a pod was connected.
func (c *counts) Waited() []bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.held)
}

func (c *counts) Lookups() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookups
}

func (c *counts) Resolved(int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookups++
}

func (c *counts) ResolveFailed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
}

func (c *counts) Retried(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retries = append(c.retries, reason)
}

func (c *counts) Retries() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.retries)
}

func (c *counts) Failed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

type fixture struct {
	*backend.Backend
	client pb.GRPCInferenceServiceClient
	seen   *counts
}

func connect(t *testing.T, host string, port int, lookup backend.Lookup) fixture {
	t.Helper()
	return open(t, backend.Options{
		Host: host, Ports: []int{port}, ResolveInterval: 100 * time.Millisecond, Lookup: lookup,
	})
}

// open connects as the options say, and notes what is observed.
func open(t *testing.T, options backend.Options) fixture {
	t.Helper()
	seen := new(counts)
	options.Observer, options.Logger = seen, slog.New(slog.DiscardHandler)
	b, err := backend.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return fixture{Backend: b, client: pb.NewGRPCInferenceServiceClient(b.Conn), seen: seen}
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// callUntil makes calls until done says so; the pod that answered is the argument.
func (f fixture) callUntil(t *testing.T, done func(pod string) bool) {
	t.Helper()
	ctx := within(t, noticeWithin)
	for {
		response, err := f.client.ModelInfer(ctx, &pb.ModelInferRequest{})
		if err != nil {
			t.Fatalf("a call failed: %v", err)
		}
		if done(response.GetModelName()) {
			return
		}
	}
}

// connected waits until the pods at these addresses, and no others, are known and connected.
func (f fixture) connected(t *testing.T, pods ...*backendtest.Pod) {
	t.Helper()
	want := make([]string, len(pods))
	for i, pod := range pods {
		want[i] = pod.Address()
	}
	slices.Sort(want)
	f.waitFor(t, func(list []backend.Status) bool {
		got := []string{}
		for _, s := range list {
			if s.Connection == connectivity.Ready {
				got = append(got, s.Address)
			}
		}
		return slices.Equal(got, want) && len(list) == len(want)
	})
}

func (f fixture) waitFor(t *testing.T, holds func([]backend.Status) bool) {
	t.Helper()
	deadline := time.NewTimer(3 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds(f.Status()) {
		select {
		case <-deadline.C:
			t.Fatalf("the pods are still %+v", f.Status())
		case <-poll.C:
		}
	}
}

func TestResolver_pods_that_come_get_a_share_and_pods_that_go_finish_their_calls(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{})
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		if p.IP == "127.0.0.1" {
			p.Infer = func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				if request.GetId() == "long" {
					close(arrived)
					<-release
				}
				return p.Echo(request), nil
			}
		}
	}, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	dns := backendtest.StartDNS(t, "127.0.0.1")
	f := connect(t, service, pods[0].Port, dns.Lookup)

	long := make(chan error, 1)
	go func() {
		_, err := f.client.ModelInfer(t.Context(), &pb.ModelInferRequest{Id: "long"})
		long <- err
	}()
	<-arrived

	dns.Set("127.0.0.1", "127.0.0.2", "127.0.0.3")
	seen := map[string]bool{}
	f.callUntil(t, func(pod string) bool {
		seen[pod] = true
		return seen["127.0.0.2"] && seen["127.0.0.3"]
	})

	dns.Set("127.0.0.2", "127.0.0.3")
	f.connected(t, pods[1], pods[2])
	f.callUntil(t, func(pod string) bool { return pod != "127.0.0.1" })
	close(release)
	if err := <-long; err != nil {
		t.Errorf("the running call on the pod that left failed: %v", err)
	}
}

func TestResolver_asks_for_the_absolute_name_only(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1")
	dns := backendtest.StartDNS(t, "127.0.0.1")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods[0])
	if names := dns.Names(); !slices.Equal(names, []string{service + "."}) {
		t.Errorf("asked for %v", names)
	}
}

func TestResolver_keeps_the_last_answer_while_dns_fails(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1")
	dns := backendtest.StartDNS(t, "127.0.0.1")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods[0])
	dns.Fail()
	f.waitFor(t, func([]backend.Status) bool { return f.seen.Failed() >= 2 })
	if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
		t.Errorf("a call failed while DNS did: %v", err)
	}
}

func TestResolver_no_pods_fails_calls_and_says_so(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1")
	dns := backendtest.StartDNS(t, "127.0.0.1")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods[0])
	dns.Set()
	f.waitFor(t, func([]backend.Status) bool {
		_, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{})
		return status.Code(err) == codes.Unavailable && contains(err, service+" has no ready pods")
	})
	if list := f.Status(); len(list) != 0 {
		t.Errorf("pods are still listed: %+v", list)
	}
	dns.Set("127.0.0.1")
	f.connected(t, pods[0])
	f.callUntil(t, func(pod string) bool { return pod == "127.0.0.1" })
}

func TestResolver_first_failure_reaches_the_caller(t *testing.T) {
	broken := func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("DNS is down") }
	f := connect(t, service, 9000, broken)
	_, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{})
	if status.Code(err) != codes.Unavailable || !contains(err, "DNS is down") {
		t.Errorf("got %v", err)
	}
}

func TestResolver_literal_addresses_and_localhost_need_no_dns_server(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			pods := backendtest.Start(t, nil, "127.0.0.1")
			connect(t, host, pods[0].Port, nil).connected(t, pods[0])
		})
	}
}

func TestAuthority_is_the_services_on_every_pod(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	for range 2 {
		if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, pod := range pods {
		want := net.JoinHostPort(service, strconv.Itoa(pod.Port))
		if got := pod.Metadata().Get(":authority"); !slices.Equal(got, []string{want}) {
			t.Errorf("%s saw :authority %v", pod.IP, got)
		}
	}
}

func TestCancel_reaches_the_pod(t *testing.T) {
	arrived, cancelled := make(chan struct{}), make(chan error, 1)
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Infer = func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			close(arrived)
			<-ctx.Done()
			cancelled <- ctx.Err()
			return nil, ctx.Err()
		}
	}, "127.0.0.1")
	f := connect(t, "127.0.0.1", pods[0].Port, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := f.client.ModelInfer(ctx, &pb.ModelInferRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("the caller got %v", err)
	}
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the pod's call ended with %v", err)
	}
	if f.Status()[0].PutAside {
		t.Error("the pod was put aside because its caller left")
	}
}

func contains(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}
