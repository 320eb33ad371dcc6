package grpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	gateway "github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/grpc"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	maxRequestBytes = 1 << 20
	defaultTimeout  = 30 * time.Second
)

// observed are the calls that the gateway counted, as service/method/status/code.
type observed struct {
	mu       sync.Mutex
	calls    []string
	inFlight int
}

func (o *observed) Observe(service, method string, code int, name string, _ float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, strings.Join([]string{service, method, codes.Code(code).String(), name}, " "))
}

func (o *observed) InFlight(delta int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inFlight += delta
}

func (o *observed) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

type noObserver struct{}

func (noObserver) Resolved(int)   {}
func (noObserver) ResolveFailed() {}
func (noObserver) Retried(string) {}
func (noObserver) Held(bool)      {}
func (noObserver) Sent(string)    {}

type fixture struct {
	pb.GRPCInferenceServiceClient
	conn    *grpc.ClientConn
	server  *gateway.Server
	metrics *observed
	log     *log
}

// log is what a gateway logged.
type log struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// start runs a gateway in front of the pod; a nil pod stands for an address where nothing listens.
func start(t *testing.T, pod *backendtest.Pod) fixture {
	t.Helper()
	port := 1
	if pod != nil {
		port = pod.Port
	}
	lines := new(log)
	logger := slog.New(slog.NewJSONHandler(lines, nil))
	pods, err := backend.New(backend.Options{
		Host: "127.0.0.1", Ports: []int{port}, ResolveInterval: time.Second, Observer: noObserver{}, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{metrics: new(observed), log: lines}
	policy := access.Policy{Restrictions: map[access.API]access.Restriction{access.Logging: {Header: "X-Admin", Value: "sesame"}}}
	f.server = gateway.New(gateway.Options{
		Backend: pods.Conn,
		Administration: administration.New(administration.Options{
			Client: pb.NewGRPCInferenceServiceClient(pods.Conn), Pods: pods, Policy: policy, Logger: logger,
		}),
		Policy: policy, MaxRequestBytes: maxRequestBytes, DefaultTimeout: defaultTimeout, Logger: logger, Metrics: f.metrics,
	})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(listener) }()
	f.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	f.GRPCInferenceServiceClient = pb.NewGRPCInferenceServiceClient(f.conn)
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		if err := f.server.Drain(over); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := errors.Join(<-served, f.conn.Close(), pods.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

func pod(t *testing.T, infer func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)) *backendtest.Pod {
	t.Helper()
	return backendtest.Start(t, func(p *backendtest.Pod) { p.Infer = infer }, "127.0.0.1")[0]
}

func call(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestUnary_message_metadata_and_trailer_pass_unchanged(t *testing.T) {
	p := pod(t, func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-served-by", "pod"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-cost", "7", "x-blob-bin", "\x00\x01"))
		return &pb.ModelInferResponse{Id: request.GetId(), RawOutputContents: request.GetRawInputContents()}, nil
	})
	f := start(t, p)
	tensor := bytes.Repeat([]byte{0, 1, 2, 255}, 100_000)
	ctx := metadata.AppendToOutgoingContext(call(t),
		"x-request-id", "42", "x-data-bin", "\x00\xff", "x-envoy-max-retries", "9", "x-forwarded-client-cert", "forged")
	var header, trailer metadata.MD
	response, err := f.ModelInfer(ctx, &pb.ModelInferRequest{Id: "a", RawInputContents: [][]byte{tensor}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if response.GetId() != "a" || !bytes.Equal(response.GetRawOutputContents()[0], tensor) {
		t.Error("the message was changed")
	}
	if header.Get("x-served-by")[0] != "pod" || trailer.Get("x-cost")[0] != "7" || trailer.Get("x-blob-bin")[0] != "\x00\x01" {
		t.Errorf("got header %v and trailer %v", header, trailer)
	}
	seen := p.Metadata()
	if got := seen.Get("x-request-id"); !slices.Equal(got, []string{"42"}) {
		t.Errorf("x-request-id is %v", got)
	}
	if got := seen.Get("x-data-bin"); !slices.Equal(got, []string{"\x00\xff"}) {
		t.Errorf("x-data-bin is %q", got)
	}
	if got := seen.Get(":authority"); !slices.Equal(got, []string{p.Address()}) {
		t.Errorf(":authority is %v", got)
	}
	for _, key := range []string{"x-envoy-max-retries", "x-forwarded-client-cert"} {
		if len(seen.Get(key)) > 0 {
			t.Errorf("%s was passed on", key)
		}
	}
	if want := []string{"inference.GRPCInferenceService ModelInfer OK "}; !slices.Equal(f.metrics.list(), want) {
		t.Errorf("counted %q", f.metrics.list())
	}
}

func TestUnary_failure_keeps_status_details_and_trailer_and_names_its_code(t *testing.T) {
	detailed, err := status.New(codes.InvalidArgument, "tensor x is wrong").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ sent, want string }{
		"the pod's own code":         {apierr.InvalidTensor, apierr.InvalidTensor},
		"the status's code, failing": {"", apierr.InvalidArgument},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := start(t, pod(t, func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				_ = grpc.SetTrailer(ctx, metadata.Pairs("x-cost", "7"))
				if c.sent != "" {
					_ = grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, c.sent))
				}
				return nil, detailed.Err()
			}))
			var trailer metadata.MD
			_, err := f.ModelInfer(call(t), &pb.ModelInferRequest{}, grpc.Trailer(&trailer))
			got := status.Convert(err)
			if got.Code() != codes.InvalidArgument || got.Message() != "tensor x is wrong" {
				t.Errorf("got %v", err)
			}
			if details := got.Details(); len(details) != 2 || details[0].(*errdetails.BadRequest).GetFieldViolations()[0].GetField() != "x" ||
				details[1].(*errdetails.ErrorInfo).GetReason() != c.want || details[1].(*errdetails.ErrorInfo).GetDomain() != apierr.Domain {
				t.Errorf("got details %v", details)
			}
			if code := trailer.Get(apierr.CodeTrailer); !slices.Equal(code, []string{c.want}) {
				t.Errorf("got code %v", code)
			}
			if cost := trailer.Get("x-cost"); !slices.Equal(cost, []string{"7"}) {
				t.Errorf("got x-cost %v", cost)
			}
		})
	}
}

func TestDeadline_of_the_caller_or_the_default_reaches_the_pod(t *testing.T) {
	cases := map[string]struct{ caller, want time.Duration }{
		"the caller's, less the time to answer": {5 * time.Second, 5*time.Second - 20*time.Millisecond},
		"the default without one":               {0, defaultTimeout},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			left := make(chan time.Duration, 1)
			f := start(t, pod(t, func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				deadline, _ := ctx.Deadline()
				left <- time.Until(deadline)
				return &pb.ModelInferResponse{}, nil
			}))
			ctx := t.Context()
			if c.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.caller)
				defer cancel()
			}
			if _, err := f.ModelInfer(ctx, &pb.ModelInferRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := <-left; got > c.want || got < c.want-2*time.Second {
				t.Errorf("the pod had %v left, want %v", got, c.want)
			}
		})
	}
}

func TestCancel_of_the_caller_reaches_the_pod(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan error, 1)
	f := start(t, pod(t, func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		close(arrived)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := f.ModelInfer(ctx, &pb.ModelInferRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("the caller got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the pod's call ended with %v", err)
	}
}

func TestLimit_a_request_beyond_it_is_refused_with_the_remedy(t *testing.T) {
	p := pod(t, nil)
	f := start(t, p)
	var trailer metadata.MD
	big := &pb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, maxRequestBytes+1)}}
	_, err := f.ModelInfer(call(t), big, grpc.Trailer(&trailer))
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "limits.maxRequestBytes") {
		t.Errorf("got %v", err)
	}
	if code := trailer.Get(apierr.CodeTrailer); !slices.Equal(code, []string{apierr.MessageTooLarge}) {
		t.Errorf("got code %v", code)
	}
	if p.Calls() != 0 {
		t.Error("the request reached the pod")
	}
	stream, err := f.ModelStreamInfer(call(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(big)
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "limits.maxRequestBytes") {
		t.Errorf("the stream got %v", err)
	}
}

func TestLimit_a_request_far_beyond_it_is_not_even_read(t *testing.T) {
	p := pod(t, nil)
	_, err := start(t, p).ModelInfer(call(t), &pb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, 2*maxRequestBytes+1)}})
	if status.Code(err) != codes.ResourceExhausted || p.Calls() != 0 {
		t.Errorf("got %v", err)
	}
}

func TestLimit_a_response_may_be_larger_than_a_request(t *testing.T) {
	f := start(t, pod(t, func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return &pb.ModelInferResponse{RawOutputContents: [][]byte{make([]byte, 5*maxRequestBytes)}}, nil
	}))
	response, err := f.ModelInfer(call(t), &pb.ModelInferRequest{})
	if err != nil || len(response.GetRawOutputContents()[0]) != 5*maxRequestBytes {
		t.Errorf("got %v", err)
	}
}

func TestStream_messages_pass_both_ways_as_they_come(t *testing.T) {
	f := start(t, pod(t, nil))
	stream, err := f.ModelStreamInfer(call(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ model, wantError string }{{"a", ""}, {"broken", "the model is broken"}, {"b", ""}} {
		if err := stream.Send(&pb.ModelInferRequest{Id: c.model, ModelName: c.model}); err != nil {
			t.Fatal(err)
		}
		response, err := stream.Recv() // before the next is sent: nothing is held back
		if err != nil {
			t.Fatal(err)
		}
		if response.GetErrorMessage() != c.wantError || c.wantError == "" && response.GetInferResponse().GetId() != c.model {
			t.Errorf("%s: got %v", c.model, response)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestStream_cancel_and_loss_of_the_pod_end_it(t *testing.T) {
	p := pod(t, nil)
	f := start(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := f.ModelStreamInfer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the cancelled stream ended with %v", err)
	}
	stream, err = f.ModelStreamInfer(call(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.ModelInferRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of a stopped pod ended with %v", err)
	}
}

func TestEvery_method_of_the_contract_reaches_the_pod(t *testing.T) {
	p := pod(t, nil)
	f := start(t, p)
	answered := []string{"ServerLive"} // by the gateway itself
	for _, method := range pb.GRPCInferenceService_ServiceDesc.Methods {
		if strings.Contains(method.MethodName, "SharedMemory") { // off, or never offered
			answered = append(answered, method.MethodName)
		}
	}
	for _, method := range pb.GRPCInferenceService_ServiceDesc.Methods {
		name := "/" + pb.GRPCInferenceService_ServiceDesc.ServiceName + "/" + method.MethodName
		before := p.Calls()
		err := f.conn.Invoke(admin(call(t)), name, &pb.ServerReadyRequest{}, &pb.ServerLiveResponse{})
		if code := status.Code(err); code != codes.OK && code != codes.Unimplemented {
			t.Errorf("%s: got %v", name, err)
		}
		if reached := p.Calls() > before; reached == slices.Contains(answered, method.MethodName) {
			t.Errorf("%s reached the pod: %v", name, reached)
		}
	}
}

// admin adds the header that the fixture asks for before it shows log settings.
func admin(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "triton-grpc-protocol-x-admin", "sesame")
}

func TestRestricted_calls_need_their_header(t *testing.T) {
	f := start(t, backendtest.Start(t, func(p *backendtest.Pod) {
		p.Administer = func(string, any) (any, error) { return &pb.LogSettingsResponse{}, nil }
	}, "127.0.0.1")[0])
	for name, c := range map[string]struct {
		ctx  context.Context
		want codes.Code
	}{
		"without it":         {call(t), codes.PermissionDenied},
		"with another value": {metadata.AppendToOutgoingContext(call(t), "triton-grpc-protocol-x-admin", "open"), codes.PermissionDenied},
		"with HTTP's name":   {metadata.AppendToOutgoingContext(call(t), "x-admin", "sesame"), codes.PermissionDenied},
		"with it":            {admin(call(t)), codes.OK},
	} {
		_, err := f.LogSettings(c.ctx, &pb.LogSettingsRequest{})
		if status.Code(err) != c.want || err != nil && !strings.Contains(err.Error(), "restricted, expecting header 'X-Admin'") {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestFailed_call_is_logged_with_the_callers_request_id(t *testing.T) {
	f := start(t, pod(t, nil))
	ctx := metadata.AppendToOutgoingContext(call(t), "x-request-id", "r-1")
	if _, err := f.LogSettings(ctx, &pb.LogSettingsRequest{}); err == nil {
		t.Fatal("the call was admitted")
	}
	if text := f.log.String(); !strings.Contains(text, `"requestId":"r-1"`) || strings.Count(text, "Failed call") != 1 {
		t.Errorf("logged %s", text)
	}
}

func TestUnknown_method_is_refused_and_counted_without_its_name(t *testing.T) {
	f := start(t, pod(t, nil))
	var trailer metadata.MD
	err := f.conn.Invoke(call(t), "/made.Up/Method", &pb.ServerLiveRequest{}, &pb.ServerLiveResponse{}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "/made.Up/Method") {
		t.Errorf("got %v", err)
	}
	if code := trailer.Get(apierr.CodeTrailer); !slices.Equal(code, []string{apierr.RouteNotFound}) {
		t.Errorf("got code %v", code)
	}
	if want := []string{"unmatched unmatched Unimplemented ROUTE_NOT_FOUND"}; !slices.Equal(f.metrics.list(), want) {
		t.Errorf("counted %q", f.metrics.list())
	}
}

func TestReadiness_without_pods_is_an_answer(t *testing.T) {
	f := start(t, nil)
	live, err := f.ServerLive(call(t), &pb.ServerLiveRequest{})
	if err != nil || !live.GetLive() {
		t.Errorf("ServerLive: %v, %v", live, err)
	}
	ready, err := f.ServerReady(call(t), &pb.ServerReadyRequest{})
	if err != nil || ready.GetReady() {
		t.Errorf("ServerReady: %v, %v", ready, err)
	}
	if _, err := f.ModelInfer(call(t), &pb.ModelInferRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("ModelInfer: %v", err)
	}
}

func TestReadiness_is_what_the_pod_says(t *testing.T) {
	for _, want := range []bool{true, false} {
		p := backendtest.Start(t, func(p *backendtest.Pod) { p.Ready = want }, "127.0.0.1")[0]
		ready, err := start(t, p).ServerReady(call(t), &pb.ServerReadyRequest{})
		if err != nil || ready.GetReady() != want {
			t.Errorf("got %v, %v, want %v", ready, err, want)
		}
	}
}

func TestHealth_is_serving_between_the_first_pod_and_the_drain(t *testing.T) {
	f := start(t, pod(t, nil))
	client := healthpb.NewHealthClient(f.conn)
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "inference.GRPCInferenceService"} {
			response, err := client.Check(call(t), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || response.GetStatus() != want {
				t.Errorf("%q: got %v, %v, want %v", service, response, err, want)
			}
		}
	}
	check(healthpb.HealthCheckResponse_NOT_SERVING)
	f.server.SetServing(true)
	check(healthpb.HealthCheckResponse_SERVING)
	f.server.Draining()
	f.server.SetServing(true) // a pod that comes during the drain changes nothing
	check(healthpb.HealthCheckResponse_NOT_SERVING)
}
