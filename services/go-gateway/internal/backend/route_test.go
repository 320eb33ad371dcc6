package backend_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestMembers_are_every_port_of_every_pod(t *testing.T) {
	first := backendtest.Start(t, nil, "127.0.0.1", "127.0.0.2")
	second := backendtest.Start(t, nil, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := open(t, backend.Options{
		Host: service, Ports: []int{first[0].Port, second[0].Port}, ResolveInterval: 100 * time.Millisecond, Lookup: dns.Lookup,
	})
	f.connected(t, append(slices.Clone(first), second...)...)
	want := []string{first[0].Address(), first[1].Address(), second[0].Address(), second[1].Address()}
	slices.Sort(want)
	if got := f.Members(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMembers_on_sockets_share_the_calls(t *testing.T) {
	folder := t.TempDir()
	pods := []*backendtest.Pod{
		backendtest.StartOnSocket(t, nil, filepath.Join(folder, "0.sock")), backendtest.StartOnSocket(t, nil, filepath.Join(folder, "1.sock")),
	}
	f := open(t, backend.Options{Sockets: []string{pods[0].IP, pods[1].IP}})
	f.connected(t, pods...)
	for range 2 {
		if _, err := f.client.ModelInfer(within(t, noticeWithin), &pb.ModelInferRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, pod := range pods {
		if pod.Calls() != 1 {
			t.Errorf("%s got %d calls, want 1", pod.Address(), pod.Calls())
		}
		if got := pod.Metadata().Get(":authority"); !slices.Equal(got, []string{"localhost"}) {
			t.Errorf("%s saw :authority %v", pod.Address(), got)
		}
	}
}

func TestPin_sends_every_call_to_its_member_or_fails(t *testing.T) {
	pods := backendtest.Start(t, nil, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	for _, pod := range pods {
		for range 3 {
			response, err := f.client.ModelInfer(backend.Pin(within(t, noticeWithin), pod.Address()), &pb.ModelInferRequest{})
			if err != nil || response.GetModelName() != pod.IP {
				t.Errorf("the call for %s went to %s: %v", pod.IP, response.GetModelName(), err)
			}
		}
	}
	dns.Set("127.0.0.1")
	f.connected(t, pods[0])
	_, err := f.client.ModelInfer(backend.Pin(within(t, noticeWithin), pods[1].Address()), &pb.ModelInferRequest{})
	if status.Code(err) != codes.Unavailable || !contains(err, pods[1].Address()+", which is not connected") {
		t.Errorf("the call for a member that left: %v", err)
	}
}

func TestPin_a_call_that_did_not_run_goes_nowhere_else(t *testing.T) {
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Infer = func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, apierr.ServerDraining))
			return nil, status.Error(codes.Unavailable, "draining")
		}
	}, "127.0.0.1", "127.0.0.2")
	dns := backendtest.StartDNS(t, "127.0.0.1", "127.0.0.2")
	f := connect(t, service, pods[0].Port, dns.Lookup)
	f.connected(t, pods...)
	_, err := f.client.ModelInfer(backend.Pin(within(t, noticeWithin), pods[0].Address()), &pb.ModelInferRequest{})
	if status.Code(err) != codes.Unavailable || pods[1].Calls() != 0 {
		t.Errorf("got %v, and %d calls at the other member", err, pods[1].Calls())
	}
}
