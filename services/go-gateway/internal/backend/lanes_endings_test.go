package backend_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestLane_a_drain_sends_calls_without_an_answer_elsewhere(t *testing.T) {
	var arrived sync.WaitGroup
	arrived.Add(10)
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if p.IP == "127.0.0.1" && request.GetId() == "unread" {
				arrived.Done()
				<-ctx.Done() // as if it had not been read: it has no answer
			}
			return p.Echo(request), nil
		}
	}, backend.Options{}, "127.0.0.1", "127.0.0.2")
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			ctx := backend.Prefer(t.Context(), c.pods[0].Address())
			response, err := c.client.ModelInfer(ctx, &pb.ModelInferRequest{Id: "unread"})
			if err != nil || response.GetModelName() != "127.0.0.2" {
				t.Errorf("got %v, %v", response, err)
			}
		})
	}
	arrived.Wait()
	c.lanes[0].Drain()
	callers.Wait()
	if want := slices.Repeat([]string{backend.RetryDraining}, 10); !slices.Equal(c.seen.Retries(), want) {
		t.Errorf("got retries %v", c.seen.Retries())
	}
	c.quiet(t)
}

func TestLane_calls_on_a_broken_one_may_have_run_and_are_not_repeated(t *testing.T) {
	arrived, stopped := make(chan struct{}), make(chan struct{})
	defer close(stopped)
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if request.GetId() == "runs" {
				close(arrived)
				<-stopped
			}
			return p.Echo(request), nil
		}
	}, backend.Options{}, "127.0.0.1", "127.0.0.2")
	broken := make(chan error, 1)
	go func() {
		_, err := c.client.ModelInfer(backend.Prefer(t.Context(), c.pods[0].Address()), &pb.ModelInferRequest{Id: "runs"})
		broken <- err
	}()
	<-arrived
	go c.pods[0].Stop() // it waits for the handler, but the connection breaks at once
	if err := <-broken; status.Code(err) != codes.Unavailable || len(c.seen.Retries()) != 0 {
		t.Errorf("got %v after retries %v", err, c.seen.Retries())
	}
	if first := c.Status()[0]; !first.PutAside || first.Lane {
		t.Errorf("the pod whose connection broke is %+v", first)
	}
	for range 5 {
		if _, err := c.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil {
			t.Error(err)
		}
	}
}

func TestLane_a_pod_without_one_gets_calls_as_ever(t *testing.T) {
	var asked atomic.Int64
	pod := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Lane = func(pb.Lane_CarryServer) error {
			asked.Add(1)
			return status.Error(codes.PermissionDenied, "RBAC: access denied")
		}
	}, "127.0.0.1")[0]
	f := connect(t, "127.0.0.1", pod.Port, nil)
	f.connected(t, pod)
	for range 50 {
		if _, err := f.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if pod.Calls() != 50 || asked.Load() != 1 || f.Status()[0].PutAside {
		t.Errorf("%d of 50 calls reached the pod, which was asked for a lane %d times and is %+v", pod.Calls(), asked.Load(), f.Status()[0])
	}
}

func TestLane_is_renewed_under_load_without_a_failed_call(t *testing.T) {
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			time.Sleep(time.Millisecond)
			return p.Echo(request), nil
		}
	}, backend.Options{LaneAge: 50 * time.Millisecond}, "127.0.0.1")
	end := time.Now().Add(400 * time.Millisecond)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for time.Now().Before(end) {
				if _, err := c.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if c.lanes[0].Lanes() < 4 {
		t.Errorf("%d lanes were opened in 8 times their age", c.lanes[0].Lanes())
	}
	if slices.Contains(c.seen.Ways()[8:], backend.WayNotOpen) {
		t.Error("calls found no lane between two")
	}
	c.waitFor(t, func(list []backend.Status) bool { return !list[0].Lane }) // the last one was used by nobody
}

func TestLane_of_a_pod_that_leaves_ends_after_its_calls(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if request.GetId() == "long" {
				close(arrived)
				<-release
			}
			return p.Echo(request), nil
		}
	}, backend.Options{Lookup: dns.Lookup}, "127.0.0.1", "127.0.0.2")
	long := make(chan error, 1)
	go func() {
		_, err := c.client.ModelInfer(backend.Prefer(t.Context(), c.pods[0].Address()), &pb.ModelInferRequest{Id: "long"})
		long <- err
	}()
	<-arrived
	dns.Set("127.0.0.2")
	c.connected(t, c.pods[1])
	close(release)
	if err := <-long; err != nil {
		t.Errorf("the call of the pod that left got %v", err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		c.pods[0].Drain() // returns when no stream is left
	}()
	select {
	case <-drained:
	case <-time.After(noticeWithin):
		t.Error("the lane of the pod that left stays open")
	}
}

func TestLane_full_of_what_the_pod_has_not_read_passes_calls_on(t *testing.T) {
	stuck, release := make(chan struct{}), make(chan struct{})
	pod := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Lane = func(lane pb.Lane_CarryServer) error {
			if err := lane.SendHeader(metadata.MD{}); err != nil {
				return err
			}
			close(stuck)
			<-release // reads nothing
			return nil
		}
	}, "127.0.0.1")[0]
	defer close(release)
	f := connect(t, "127.0.0.1", pod.Port, nil)
	f.connected(t, pod)
	request := &pb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, 25<<10)}}
	if _, err := f.client.ModelInfer(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	<-stuck
	f.waitFor(t, func(list []backend.Status) bool { return list[0].Lane })
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			if _, err := f.client.ModelInfer(within(t, 100*time.Millisecond), request); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a call that nobody reads got %v", err)
			}
		})
	}
	callers.Wait()
	if _, err := f.client.ModelInfer(within(t, noticeWithin), request); err != nil {
		t.Errorf("the call that found the lane full got %v", err)
	}
	if want := []string{backend.WayNotOpen, backend.WayLane, backend.WayLane, backend.WayFull}; !slices.Equal(f.seen.Ways(), want) {
		t.Errorf("the calls went %v, want %v", f.seen.Ways(), want)
	}
	f.waitFor(t, func(list []backend.Status) bool { return !list[0].Lane })
}

func TestLane_a_pod_that_is_put_aside_gets_one_trial_call_by_it(t *testing.T) {
	var failing atomic.Bool
	now := time.Now()
	var clock sync.Mutex
	c := withLanes(t, func(p *backendtest.Pod) infer {
		return func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if p.IP == "127.0.0.1" && failing.Load() {
				return nil, status.Error(codes.Unavailable, "no healthy upstream")
			}
			return p.Echo(request), nil
		}
	}, backend.Options{Now: func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return now
	}}, "127.0.0.1", "127.0.0.2")
	failing.Store(true)
	if _, err := c.client.ModelInfer(backend.Prefer(t.Context(), c.pods[0].Address()), &pb.ModelInferRequest{}); err != nil {
		t.Fatalf("a call that never ran was not sent elsewhere: %v", err)
	}
	before := len(c.lanes[0].Requests())
	for range 5 {
		if _, err := c.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil {
			t.Error(err)
		}
	}
	if got := len(c.lanes[0].Requests()); got != before || !c.Status()[0].PutAside {
		t.Errorf("the pod that was put aside got %d calls; it is %+v", got-before, c.Status()[0])
	}
	failing.Store(false)
	clock.Lock()
	now = now.Add(2 * time.Second)
	clock.Unlock()
	c.callUntil(t, func(pod string) bool { return pod == "127.0.0.1" })
	if c.Status()[0].PutAside || c.lastWay() != backend.WayLane {
		t.Errorf("after its trial call by %s the pod is %+v", c.lastWay(), c.Status()[0])
	}
}

func TestLane_of_a_pod_that_answers_nonsense_ends(t *testing.T) {
	pod := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Lane = func(lane pb.Lane_CarryServer) error {
			if err := lane.SendHeader(metadata.MD{}); err != nil {
				return err
			}
			request, err := lane.Recv()
			if err != nil {
				return err
			}
			if err := lane.Send(&pb.LaneResponse{Call: request.GetCall()}); err != nil {
				return err
			}
			<-lane.Context().Done()
			return nil
		}
	}, "127.0.0.1")[0]
	f := connect(t, "127.0.0.1", pod.Port, nil)
	f.connected(t, pod)
	if _, err := f.client.ModelInfer(t.Context(), &pb.ModelInferRequest{}); err != nil {
		t.Fatal(err)
	}
	f.waitFor(t, func(list []backend.Status) bool { return list[0].Lane })
	if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); !contains(err, "malformed") || status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	f.waitFor(t, func(list []backend.Status) bool { return !list[0].Lane && list[0].Outstanding == 0 })
}
