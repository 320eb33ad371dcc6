package backend_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// slowly connects by a resolver that by itself asks once in `interval`.
func slowly(t *testing.T, names *backendtest.DNS, port int, interval time.Duration) fixture {
	t.Helper()
	return open(t, backend.Options{Host: service, Ports: []int{port}, ResolveInterval: interval, Lookup: names.Lookup})
}

// noPods waits until DNS has said that there are none.
func (f fixture) noPods(t *testing.T) {
	t.Helper()
	ctx := within(t, 5*time.Second)
	for f.seen.Lookups() == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("DNS was not asked")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWaiting_first_call_after_a_pod_became_ready_succeeds(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	names := backendtest.StartDNS(t)
	f := slowly(t, names, pod.Port, time.Minute)
	f.noPods(t)
	names.Set(pod.IP)
	began := time.Now()
	if _, err := f.client.ModelInfer(within(t, 10*time.Second), &pb.ModelInferRequest{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v, which is not at once", took)
	}
	if got := f.seen.Waited(); !slices.Equal(got, []bool{true}) {
		t.Errorf("held calls: %v, want one that found a pod", got)
	}
}

func TestWaiting_streams_are_held_too(t *testing.T) {
	pod := backendtest.Start(t, nil, "127.0.0.1")[0]
	names := backendtest.StartDNS(t)
	f := slowly(t, names, pod.Port, time.Minute)
	f.noPods(t)
	names.Set(pod.IP)
	stream, err := f.client.ModelStreamInfer(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.Send(&pb.ModelInferRequest{Id: "1"}), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || answer.GetInferResponse().GetId() != "1" {
		t.Errorf("got %v and %v", answer, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

func TestWaiting_ends_unavailable_within_its_bound_and_the_deadline(t *testing.T) {
	names := backendtest.StartDNS(t)
	f := slowly(t, names, 1, 100*time.Millisecond)
	f.noPods(t)
	for name, test := range map[string]struct{ deadline, most time.Duration }{
		"the bound":    {time.Minute, 5 * time.Second},
		"the deadline": {300 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := f.client.ModelInfer(within(t, test.deadline), &pb.ModelInferRequest{})
			if took := time.Since(began); took > test.most {
				t.Errorf("it took %v, more than %v", took, test.most)
			}
			if status.Code(err) != codes.Unavailable || !contains(err, "has no ready pods") {
				t.Errorf("got %v, want UNAVAILABLE with the reason", err)
			}
		})
	}
	if got := f.seen.Waited(); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("held calls: %v, want two that gave up", got)
	}
}

func TestWaiting_questions_about_now_are_answered_now(t *testing.T) {
	names := backendtest.StartDNS(t)
	f := slowly(t, names, 1, time.Minute)
	f.noPods(t)
	began := time.Now()
	if _, err := f.client.ServerReady(within(t, 10*time.Second), &pb.ServerReadyRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("ServerReady: %v", err)
	}
	pinned := backend.Pin(within(t, 10*time.Second), "127.0.0.1:1")
	if _, err := f.client.ModelInfer(pinned, &pb.ModelInferRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a pinned call: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second || len(f.seen.Waited()) != 0 {
		t.Errorf("they took %v and were held %d times", took, len(f.seen.Waited()))
	}
}

func TestWaiting_many_calls_ask_dns_few_times(t *testing.T) {
	names := backendtest.StartDNS(t)
	f := slowly(t, names, 1, time.Minute)
	f.noPods(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			for ctx.Err() == nil {
				short, done := context.WithTimeout(ctx, 20*time.Millisecond)
				_, _ = f.client.ModelInfer(short, &pb.ModelInferRequest{}) // fails: there are no pods
				done()
			}
		})
	}
	calls.Wait()
	if got := f.seen.Lookups(); got < 2 || got > 8 {
		t.Errorf("DNS was asked %d times in half a second, want at least one question more and no more than one in 100 ms", got)
	}
}
