package backend_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const upstreamError = "upstream connect error or disconnect/reset before headers. "

func TestRetry_only_calls_that_never_ran_go_to_another_pod(t *testing.T) {
	cases := map[string]struct {
		failure error
		code    string // trailer x-error-code
		want    string // the retry's reason; empty: no retry
	}{
		"the sidecar could not connect":       {status.Error(codes.Unavailable, upstreamError+"reset reason: remote connection failure, transport failure reason: delayed connect error: 113"), "", backend.RetryNotConnected},
		"the sidecar ran out of time to":      {status.Error(codes.Unavailable, upstreamError+"retried and the latest reset reason: connection timeout"), "", backend.RetryNotConnected},
		"the sidecar knows no pod":            {status.Error(codes.Unavailable, "no healthy upstream"), "", backend.RetryNotConnected},
		"the pod drains":                      {status.Error(codes.Unavailable, "shutting down"), apierr.ServerDraining, backend.RetryDraining},
		"the connection broke after the send": {status.Error(codes.Unavailable, upstreamError+"reset reason: connection termination"), "", ""},
		"the application is unavailable":      {status.Error(codes.Unavailable, "try later"), "", ""},
		"the model is not ready":              {status.Error(codes.Unavailable, "no healthy upstream"), apierr.ModelNotReady, ""},
		"the application quotes the proxy":    {status.Error(codes.Internal, upstreamError+"reset reason: connection failure"), "", ""},
		"the request is wrong":                {status.Error(codes.InvalidArgument, "bad tensor"), apierr.InvalidTensor, ""},
		"the pod's own deadline passed":       {status.Error(codes.DeadlineExceeded, "too slow"), "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var failed atomic.Int32
			pods := backendtest.Start(t, func(p *backendtest.Pod) {
				p.Infer = func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
					if failed.Add(1) > 1 {
						return p.Echo(request), nil
					}
					if c.code != "" {
						_ = grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, c.code))
					}
					return nil, c.failure
				}
			}, "127.0.0.1", "127.0.0.2")
			dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
			f := connect(t, service, pods[0].Port, dns.Lookup)
			f.connected(t, pods...)

			_, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{})
			if c.want == "" {
				if status.Convert(err).Message() != status.Convert(c.failure).Message() || len(f.seen.Retries()) != 0 {
					t.Errorf("got %v after retries %v", err, f.seen.Retries())
				}
				return
			}
			if err != nil || !slices.Equal(f.seen.Retries(), []string{c.want}) {
				t.Errorf("got %v after retries %v", err, f.seen.Retries())
			}
			if pods[0].Calls() != 1 || pods[1].Calls() != 1 {
				t.Errorf("the pods got %d and %d calls, want one each", pods[0].Calls(), pods[1].Calls())
			}
		})
	}
}

func neverRuns(*backendtest.Pod) func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	return func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return nil, status.Error(codes.Unavailable, upstreamError+"reset reason: connection failure")
	}
}

func TestRetry_is_one_at_most(t *testing.T) {
	pods := backendtest.Start(t, func(p *backendtest.Pod) { p.Infer = neverRuns(p) }, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if total := pods[0].Calls() + pods[1].Calls() + pods[2].Calls(); total != 2 {
		t.Errorf("the call was made %d times, want 2", total)
	}
}

func TestRetry_needs_another_pod(t *testing.T) {
	pods := backendtest.Start(t, func(p *backendtest.Pod) { p.Infer = neverRuns(p) }, "127.0.0.1")
	f := connect(t, "127.0.0.1", pods[0].Port, nil)
	f.connected(t, pods...)
	if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); !contains(err, upstreamError) {
		t.Errorf("got %v", err)
	}
	if pods[0].Calls() != 1 {
		t.Errorf("the only pod got %d calls", pods[0].Calls())
	}
}

func TestRetry_never_goes_past_the_deadline(t *testing.T) {
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Infer = func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			<-ctx.Done()
			return neverRuns(p)(ctx, request)
		}
	}, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	if _, err := f.client.ModelInfer(within(t, noticeWithin/10), &pb.ModelInferRequest{}); err == nil {
		t.Error("the call succeeded after its deadline")
	}
	if len(f.seen.Retries()) != 0 {
		t.Error("the call was retried")
	}
}

func TestPutAside_a_pod_that_stops_answering_loses_its_share_until_it_is_back(t *testing.T) {
	var sick atomic.Bool
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Infer = func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if p.IP == "127.0.0.1" && sick.Load() {
				return neverRuns(p)(ctx, request)
			}
			return p.Echo(request), nil
		}
	}, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	sick.Store(true)
	for range 20 { // the sick pod costs one failure, which is retried; none reaches a caller
		if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if pods[0].Calls() != 1 || !f.Status()[0].PutAside {
		t.Errorf("the sick pod got %d calls, want 1; it is %+v", pods[0].Calls(), f.Status()[0])
	}
	sick.Store(false)
	f.callUntil(t, func(pod string) bool { return pod == "127.0.0.1" })
	if f.Status()[0].PutAside {
		t.Error("the pod is still put aside after a trial call that succeeded")
	}
}

func TestConnection_a_stopped_pod_costs_no_call_and_a_restarted_one_is_used_again(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	pods[0].Drain()
	for range 20 {
		if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	backendtest.Restart(t, pods[0])
	f.callUntil(t, func(pod string) bool { return pod == "127.0.0.1" })
}
