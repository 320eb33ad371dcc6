package backend_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/lane"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

type infer = func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)

// carried is a gateway's channel to pods that each have a lane open.
type carried struct {
	fixture
	pods  []*backendtest.Pod
	lanes []*backendtest.Carried
}

// withLanes starts pods that answer as `answer` says (nil: they echo) and returns when the lane to each is open.
func withLanes(t *testing.T, answer func(*backendtest.Pod) infer, options backend.Options, ips ...string) carried {
	t.Helper()
	var c carried
	c.pods = backendtest.Start(t, func(p *backendtest.Pod) {
		c.lanes = append(c.lanes, backendtest.ServeLanes(p))
		if answer != nil {
			p.Infer = answer(p)
		}
	}, ips...)
	options.Host, options.Ports, options.ResolveInterval = service, []int{c.pods[0].Port}, 100*time.Millisecond
	if options.Lookup == nil {
		options.Lookup = backendtest.StartDNS(t, ips...).Lookup
	}
	c.fixture = open(t, options)
	c.connected(t, c.pods...)
	for range ips {
		if _, err := c.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	c.waitFor(t, func(list []backend.Status) bool {
		return !slices.ContainsFunc(list, func(s backend.Status) bool { return !s.Lane })
	})
	return c
}

// lastWay is how the last call was sent.
func (c carried) lastWay() string {
	ways := c.seen.Ways()
	return ways[len(ways)-1]
}

// quiet waits until no pod counts a call: the open lanes are none.
func (c carried) quiet(t *testing.T) {
	t.Helper()
	c.waitFor(t, func(list []backend.Status) bool {
		return !slices.ContainsFunc(list, func(s backend.Status) bool { return s.Outstanding != 0 })
	})
}

func TestLane_the_call_after_the_first_goes_by_it_with_deadline_trace_and_request_id(t *testing.T) {
	c := withLanes(t, nil, backend.Options{}, "127.0.0.1")
	ctx := trace.ContextWithSpanContext(within(t, time.Minute), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 15: 0x9c}, SpanID: trace.SpanID{0xb7, 7: 0x31},
	}))
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "order-1")
	response, err := c.client.ModelInfer(ctx, &pb.ModelInferRequest{Id: "7", RawInputContents: [][]byte{{1, 2, 3}}})
	if err != nil || response.GetId() != "7" || string(response.GetRawOutputContents()[0]) != "\x01\x02\x03" {
		t.Fatalf("got %v, %v", response, err)
	}
	if want := []string{backend.WayNotOpen, backend.WayLane}; !slices.Equal(c.seen.Ways(), want) || c.pods[0].Calls() != 1 {
		t.Errorf("the calls went %v, want %v; %d reached the pod as its own", c.seen.Ways(), want, c.pods[0].Calls())
	}
	sent := c.lanes[0].Requests()[0]
	if sent.GetTraceparent() != "00-0a00000000000000000000000000009c-b700000000000031-00" || sent.GetRequestId() != "order-1" {
		t.Errorf("the message has traceparent %q and request id %q", sent.GetTraceparent(), sent.GetRequestId())
	}
	if left := time.Duration(sent.GetTimeoutMicroseconds()) * time.Microsecond; left < 30*time.Second || left > time.Minute {
		t.Errorf("the message has %v left, of a minute", left)
	}
	c.quiet(t)
}

func TestLane_many_calls_at_once_get_each_its_own_answer(t *testing.T) {
	var served atomic.Int64
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			time.Sleep(time.Duration(served.Add(1)%3) * time.Millisecond) // answers overtake each other
			return p.Echo(request), nil
		}
	}, backend.Options{}, "127.0.0.1", "127.0.0.2")
	var callers sync.WaitGroup
	for caller := range 32 {
		callers.Go(func() {
			for call := range 20 {
				id := fmt.Sprintf("%d/%d", caller, call)
				response, err := c.client.ModelInfer(t.Context(), &pb.ModelInferRequest{Id: id})
				if err != nil || response.GetId() != id {
					t.Errorf("call %s got %v, %v", id, response, err)
				}
			}
		})
	}
	callers.Wait()
	if first, second := len(c.lanes[0].Requests()), len(c.lanes[1].Requests()); first < 200 || second < 200 {
		t.Errorf("the pods' lanes carried %d and %d of 640 calls", first, second)
	}
	c.quiet(t)
}

func TestLane_calls_that_do_not_fit_go_by_themselves(t *testing.T) {
	sampled := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}
	state, err := trace.ParseTraceState("vendor=1")
	if err != nil {
		t.Fatal(err)
	}
	stateful := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceState: state}
	member, err := baggage.NewMember("tenant", "a")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		context func(context.Context) context.Context
		bytes   int
		want    string
	}{
		"sampled": {func(ctx context.Context) context.Context {
			return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(sampled))
		}, 0, backend.WaySampled},
		"with a trace state": {func(ctx context.Context) context.Context {
			return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(stateful))
		}, 0, backend.WayMetadata},
		"with baggage": {func(ctx context.Context) context.Context { return baggage.ContextWithBaggage(ctx, bag) }, 0, backend.WayMetadata},
		"with a restricted API's key": {func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, "triton-grpc-protocol-key", "secret")
		}, 0, backend.WayMetadata},
		"with a request id that no log line bears": {func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, "x-request-id", strings.Repeat("x", 129))
		}, 0, backend.WayMetadata},
		"large":        {func(ctx context.Context) context.Context { return ctx }, lane.MaxRequestBytes, backend.WayLarge},
		"not so large": {func(ctx context.Context) context.Context { return ctx }, lane.MaxRequestBytes - 100, backend.WayLane},
	}
	c := withLanes(t, nil, backend.Options{}, "127.0.0.1")
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			request := &pb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, test.bytes)}}
			before := c.pods[0].Calls()
			if _, err := c.client.ModelInfer(test.context(t.Context()), request); err != nil {
				t.Fatal(err)
			}
			if byItself := c.pods[0].Calls() > before; c.lastWay() != test.want || byItself == (test.want == backend.WayLane) {
				t.Errorf("it went %s, want %s; by itself: %t", c.lastWay(), test.want, byItself)
			}
		})
	}
}

func TestLane_failures_are_those_of_a_unary_call(t *testing.T) {
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if request.GetId() == "" {
				return p.Echo(request), nil
			}
			_ = grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, apierr.QueueFull, "retry-after", "7"))
			return nil, status.Error(codes.ResourceExhausted, "too much waits")
		}
	}, backend.Options{}, "127.0.0.1")
	_, err := backend.Call(t.Context(), c.client.ModelInfer, &pb.ModelInferRequest{Id: "x"})
	failure := apierr.From(err)
	if failure.Code != apierr.QueueFull || failure.Message != "too much waits" || failure.RetryAfter != 7*time.Second || c.lastWay() != backend.WayLane {
		t.Errorf("got %+v by %s", failure, c.lastWay())
	}
	if c.Status()[0].PutAside {
		t.Error("the pod was put aside for an error of the application")
	}
}

func TestLane_a_call_ends_for_its_caller_at_the_deadline_or_when_it_leaves_and_the_pod_is_told(t *testing.T) {
	ends := map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		want    codes.Code
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, codes.DeadlineExceeded},
		"leaves": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, codes.Canceled},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			left := make(chan struct{})
			c := withLanes(t, func(p *backendtest.Pod) infer {
				return func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
					if request.GetId() == "hangs" {
						<-ctx.Done()
						close(left)
					}
					return p.Echo(request), nil
				}
			}, backend.Options{}, "127.0.0.1")
			ctx, cancel := end.context(t.Context())
			defer cancel()
			started := time.Now()
			_, err := c.client.ModelInfer(ctx, &pb.ModelInferRequest{Id: "hangs"})
			if status.Code(err) != end.want || time.Since(started) > noticeWithin || c.lastWay() != backend.WayLane {
				t.Errorf("got %v by %s after %v", err, c.lastWay(), time.Since(started))
			}
			select {
			case <-left:
			case <-time.After(noticeWithin):
				t.Error("the pod goes on")
			}
			if _, err := c.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil || c.lastWay() != backend.WayLane {
				t.Errorf("the next call got %v by %s", err, c.lastWay())
			}
			c.quiet(t)
			if c.Status()[0].PutAside {
				t.Error("the pod was put aside for its caller's leaving")
			}
		})
	}
}
