package administration_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

type noObserver struct{}

func (noObserver) Resolved(int)   {}
func (noObserver) ResolveFailed() {}
func (noObserver) Retried(string) {}
func (noObserver) Held(bool)      {}
func (noObserver) Sent(string)    {}

// administer is how one pod answers the RPC, by its name.
type administer = func(rpc string, request any) (any, error)

// fleet is the service under test in front of real pods, one per administer.
type fleet struct {
	*administration.Service
	pods []*backendtest.Pod
}

func start(t *testing.T, change func(*administration.Options), answers ...administer) fleet {
	t.Helper()
	ips := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}[:len(answers)]
	next := 0
	pods := backendtest.Start(t, func(p *backendtest.Pod) {
		p.Administer = answers[next]
		next++
	}, ips...)
	dns := backendtest.StartDNS(t, ips...)
	pool, err := backend.New(backend.Options{
		Host: "inference.test", Ports: []int{pods[0].Port}, ResolveInterval: time.Second, Lookup: dns.Lookup,
		Observer: noObserver{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); len(pool.Members()) < len(pods); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("connected are %v only", pool.Members())
		}
	}
	options := administration.Options{Client: pb.NewGRPCInferenceServiceClient(pool.Conn), Pods: pool, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&options)
	}
	return fleet{administration.New(options), pods}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func answering(response proto.Message) administer {
	return func(string, any) (any, error) { return response, nil }
}

func failing(code codes.Code, text string) administer {
	return func(string, any) (any, error) { return nil, status.Error(code, text) }
}

func duration(count, ns uint64) *pb.StatisticDuration {
	return &pb.StatisticDuration{Count: count, Ns: ns}
}

func TestStatisticsAreSummedOverAllPods(t *testing.T) {
	f := start(t, nil,
		answering(&pb.ModelStatisticsResponse{ModelStats: []*pb.ModelStatistics{{
			Name: "m", Version: "1", LastInference: 20, InferenceCount: 8, ExecutionCount: 2,
			InferenceStats: &pb.InferStatistics{Success: duration(2, 100), Queue: duration(2, 5)},
			BatchStats:     []*pb.InferBatchStatistics{{BatchSize: 4, ComputeInfer: duration(2, 60)}},
			MemoryUsage:    []*pb.MemoryUsage{{Type: "CPU", ByteSize: 10}},
			ResponseStats:  map[string]*pb.InferResponseStatistics{"0": {Success: duration(1, 1)}},
		}, {Name: "n"}}}),
		answering(&pb.ModelStatisticsResponse{ModelStats: []*pb.ModelStatistics{{
			Name: "m", Version: "1", LastInference: 30, InferenceCount: 3, ExecutionCount: 2,
			InferenceStats: &pb.InferStatistics{Success: duration(1, 50), Fail: duration(1, 7)},
			BatchStats:     []*pb.InferBatchStatistics{{BatchSize: 1, ComputeInfer: duration(1, 9)}, {BatchSize: 4, ComputeInfer: duration(1, 40)}},
			MemoryUsage:    []*pb.MemoryUsage{{Type: "CPU", ByteSize: 5}, {Type: "GPU", Id: 1, ByteSize: 7}},
			ResponseStats:  map[string]*pb.InferResponseStatistics{"0": {Success: duration(2, 3)}, "1": {Fail: duration(1, 1)}},
		}}}),
	)
	got, err := f.ModelStatistics(within(t), &pb.ModelStatisticsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	zero := duration(0, 0)
	none := &pb.InferStatistics{Success: zero, Fail: zero, Queue: zero, ComputeInput: zero, ComputeInfer: zero, ComputeOutput: zero, CacheHit: zero, CacheMiss: zero}
	want := &pb.ModelStatisticsResponse{ModelStats: []*pb.ModelStatistics{
		{
			Name: "m", Version: "1", LastInference: 30, InferenceCount: 11, ExecutionCount: 4,
			InferenceStats: &pb.InferStatistics{
				Success: duration(3, 150), Fail: duration(1, 7), Queue: duration(2, 5),
				ComputeInput: zero, ComputeInfer: zero, ComputeOutput: zero, CacheHit: zero, CacheMiss: zero,
			},
			BatchStats: []*pb.InferBatchStatistics{
				{BatchSize: 1, ComputeInput: zero, ComputeInfer: duration(1, 9), ComputeOutput: zero},
				{BatchSize: 4, ComputeInput: zero, ComputeInfer: duration(3, 100), ComputeOutput: zero},
			},
			MemoryUsage: []*pb.MemoryUsage{{Type: "CPU", ByteSize: 15}, {Type: "GPU", Id: 1, ByteSize: 7}},
			ResponseStats: map[string]*pb.InferResponseStatistics{
				"0": {ComputeInfer: zero, ComputeOutput: zero, Success: duration(3, 4), Fail: zero, EmptyResponse: zero, Cancel: zero},
				"1": {ComputeInfer: zero, ComputeOutput: zero, Success: zero, Fail: duration(1, 1), EmptyResponse: zero, Cancel: zero},
			},
		},
		{Name: "n", InferenceStats: none},
	}}
	// The order of memory kinds is that of the answers, which arrive in the order of the addresses.
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func models(list ...*pb.RepositoryIndexResponse_ModelIndex) administer {
	return answering(&pb.RepositoryIndexResponse{Models: list})
}

func TestModelIsReadyWhenAllPodsSaySo(t *testing.T) {
	f := start(t, nil,
		models(
			&pb.RepositoryIndexResponse_ModelIndex{Name: "a", Version: "1", State: "READY"},
			&pb.RepositoryIndexResponse_ModelIndex{Name: "b", Version: "1", State: "READY"},
			&pb.RepositoryIndexResponse_ModelIndex{Name: "c", Version: "1", State: "READY"},
		),
		models(
			&pb.RepositoryIndexResponse_ModelIndex{Name: "a", Version: "1", State: "READY"},
			&pb.RepositoryIndexResponse_ModelIndex{Name: "b", Version: "1", State: "UNAVAILABLE", Reason: "unloaded"},
		),
	)
	second := f.pods[1].Address()
	for name, test := range map[string]struct {
		request *pb.RepositoryIndexRequest
		want    []*pb.RepositoryIndexResponse_ModelIndex
	}{
		"all": {&pb.RepositoryIndexRequest{}, []*pb.RepositoryIndexResponse_ModelIndex{
			{Name: "a", Version: "1", State: "READY"},
			{Name: "b", Version: "1", State: "UNAVAILABLE", Reason: "on " + second + ": unloaded"},
			{Name: "c", Version: "1", State: "UNAVAILABLE", Reason: "on " + second + ": its repository lacks the model"},
		}},
		"the ready": {&pb.RepositoryIndexRequest{Ready: true}, []*pb.RepositoryIndexResponse_ModelIndex{{Name: "a", Version: "1", State: "READY"}}},
	} {
		got, err := f.RepositoryIndex(within(t), test.request)
		if err != nil || !proto.Equal(got, &pb.RepositoryIndexResponse{Models: test.want}) {
			t.Errorf("%s: got %v, %v\nwant %v", name, got, err, test.want)
		}
	}
}

func TestIndexOfOnePodIsItsOwn(t *testing.T) {
	own := &pb.RepositoryIndexResponse_ModelIndex{Name: "a", State: "UNAVAILABLE", Reason: "unloaded"}
	got, err := start(t, nil, models(own)).RepositoryIndex(within(t), &pb.RepositoryIndexRequest{})
	if err != nil || !proto.Equal(got, &pb.RepositoryIndexResponse{Models: []*pb.RepositoryIndexResponse_ModelIndex{own}}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// changes are the calls that change something everywhere.
var changes = map[string]func(context.Context, fleet) error{
	"load": func(ctx context.Context, f fleet) error {
		_, err := f.RepositoryModelLoad(ctx, &pb.RepositoryModelLoadRequest{ModelName: "m"})
		return err
	},
	"unload": func(ctx context.Context, f fleet) error {
		_, err := f.RepositoryModelUnload(ctx, &pb.RepositoryModelUnloadRequest{ModelName: "m"})
		return err
	},
	"trace settings": func(ctx context.Context, f fleet) error {
		_, err := f.TraceSetting(ctx, &pb.TraceSettingRequest{Settings: map[string]*pb.TraceSettingRequest_SettingValue{"trace_rate": {}}})
		return err
	},
	"log settings": func(ctx context.Context, f fleet) error {
		_, err := f.LogSettings(ctx, &pb.LogSettingsRequest{Settings: map[string]*pb.LogSettingsRequest_SettingValue{"log_info": {}}})
		return err
	},
}

// changed answers every change.
func changed(rpc string, _ any) (any, error) {
	switch rpc {
	case "RepositoryModelLoad":
		return &pb.RepositoryModelLoadResponse{}, nil
	case "RepositoryModelUnload":
		return &pb.RepositoryModelUnloadResponse{}, nil
	case "TraceSetting":
		return &pb.TraceSettingResponse{}, nil
	case "LogSettings":
		return &pb.LogSettingsResponse{}, nil
	}
	return nil, errors.New(rpc + " is no change")
}

func TestChangesGoToAllPods(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil, changed, changed, changed)
			if err := change(within(t), f); err != nil {
				t.Fatal(err)
			}
			for _, pod := range f.pods {
				if pod.Calls() != 1 {
					t.Errorf("%s got %d calls, want 1", pod.Address(), pod.Calls())
				}
			}
		})
	}
}

func TestReadingSettingsAsksOnePodAlways(t *testing.T) {
	f := start(t, func(o *administration.Options) { o.Policy.ReadOnly = true }, changed, changed)
	for range 3 {
		_, traceErr := f.TraceSetting(within(t), &pb.TraceSettingRequest{})
		_, logErr := f.LogSettings(within(t), &pb.LogSettingsRequest{})
		if err := errors.Join(traceErr, logErr); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := f.pods[0].Calls(), f.pods[1].Calls(); first != 6 || second != 0 {
		t.Errorf("the pods got %d and %d calls, want 6 and 0", first, second)
	}
}

func TestNothingChangesWhereAdministrationIsReadOnly(t *testing.T) {
	f := start(t, func(o *administration.Options) { o.Policy.ReadOnly = true }, changed)
	for name, change := range changes {
		failure := apierr.From(change(within(t), f))
		if failure == nil || failure.Code != apierr.PermissionDenied || !strings.Contains(failure.Message, "administration.mode is ReadOnly") {
			t.Errorf("%s: got %v", name, failure)
		}
	}
	if calls := f.pods[0].Calls(); calls != 0 {
		t.Errorf("the pod got %d calls", calls)
	}
}

func TestPartialFailureNamesWhoFailedAndWhoDidNot(t *testing.T) {
	f := start(t, nil, changed, failing(codes.Internal, "disk full"), changed)
	failure := apierr.From(changes["load"](within(t), f))
	want := "1 of 3 inference servers failed: " + f.pods[1].Address() + " (INTERNAL: disk full); succeeded on " + f.pods[0].Address() + ", " + f.pods[2].Address()
	if failure.Code != apierr.PartialFailure || failure.Message != want {
		t.Errorf("got %s %q\nwant %q", failure.Code, failure.Message, want)
	}
}

func TestPodsThatFailDifferentlyAreAllNamed(t *testing.T) {
	f := start(t, nil, failing(codes.NotFound, "no model 'm'"), failing(codes.Internal, "disk full"))
	failure := apierr.From(changes["load"](within(t), f))
	for _, part := range []string{"2 of 2", f.pods[0].Address() + " (NOT_FOUND: no model 'm')", f.pods[1].Address() + " (INTERNAL: disk full)", "none succeeded"} {
		if failure.Code != apierr.PartialFailure || !strings.Contains(failure.Message, part) {
			t.Errorf("got %s %q, want PARTIAL_FAILURE with %q", failure.Code, failure.Message, part)
		}
	}
}

func TestFailureThatAllPodsShareIsTheCalls(t *testing.T) {
	f := start(t, nil, failing(codes.NotFound, "no model 'm'"), failing(codes.NotFound, "no model 'm'"))
	failure := apierr.From(changes["load"](within(t), f))
	if failure.Code != apierr.NotFound || failure.Message != "no model 'm'" {
		t.Errorf("got %s %q", failure.Code, failure.Message)
	}
}

func TestPodThatIsLostFailsAChange(t *testing.T) {
	f := start(t, nil, changed, changed)
	f.pods[1].Stop()
	failure := apierr.From(changes["load"](within(t), f))
	if failure == nil || failure.Code != apierr.PartialFailure || !strings.Contains(failure.Message, f.pods[1].Address()) {
		t.Errorf("got %v", failure)
	}
}

func TestSharedMemoryIsRefusedUnlessItIsShared(t *testing.T) {
	f := start(t, nil, changed)
	_, status := f.SystemSharedMemoryStatus(within(t), &pb.SystemSharedMemoryStatusRequest{})
	_, register := f.SystemSharedMemoryRegister(within(t), &pb.SystemSharedMemoryRegisterRequest{})
	_, unregister := f.SystemSharedMemoryUnregister(within(t), &pb.SystemSharedMemoryUnregisterRequest{})
	for name, err := range map[string]error{"status": status, "register": register, "unregister": unregister} {
		if failure := apierr.From(err); failure == nil || failure.Code != apierr.Unsupported || !strings.Contains(failure.Message, "sharedMemory.enabled") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if calls := f.pods[0].Calls(); calls != 0 {
		t.Errorf("the pod got %d calls", calls)
	}
}

func TestSharedRegionsAreRegisteredWithEveryWorker(t *testing.T) {
	answer := func(rpc string, _ any) (any, error) {
		if rpc == "SystemSharedMemoryRegister" {
			return &pb.SystemSharedMemoryRegisterResponse{}, nil
		}
		return &pb.SystemSharedMemoryUnregisterResponse{}, nil
	}
	f := start(t, func(o *administration.Options) { o.SharedMemory = true }, answer, answer)
	_, register := f.SystemSharedMemoryRegister(within(t), &pb.SystemSharedMemoryRegisterRequest{Name: "r"})
	_, unregister := f.SystemSharedMemoryUnregister(within(t), &pb.SystemSharedMemoryUnregisterRequest{})
	if err := errors.Join(register, unregister); err != nil {
		t.Fatal(err)
	}
	for _, pod := range f.pods {
		if pod.Calls() != 2 {
			t.Errorf("%s got %d calls, want 2", pod.Address(), pod.Calls())
		}
	}
}

func TestCUDASharedMemoryIsNeverOffered(t *testing.T) {
	f := start(t, func(o *administration.Options) { o.SharedMemory = true }, changed)
	_, status := f.CudaSharedMemoryStatus(within(t), &pb.CudaSharedMemoryStatusRequest{})
	_, register := f.CudaSharedMemoryRegister(within(t), &pb.CudaSharedMemoryRegisterRequest{})
	_, unregister := f.CudaSharedMemoryUnregister(within(t), &pb.CudaSharedMemoryUnregisterRequest{})
	for name, err := range map[string]error{"status": status, "register": register, "unregister": unregister} {
		if failure := apierr.From(err); failure == nil || failure.Code != apierr.Unsupported || !strings.Contains(failure.Message, "CUDA shared memory") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEveryRPCOfTheContractBelongsToAnAPI(t *testing.T) {
	contract := pb.GRPCInferenceService_ServiceDesc
	for _, method := range contract.Methods {
		if access.Of(method.MethodName) == "" {
			t.Errorf("%s belongs to no API", method.MethodName)
		}
	}
	for _, stream := range contract.Streams {
		if access.Of(stream.StreamName) == "" {
			t.Errorf("%s belongs to no API", stream.StreamName)
		}
	}
}
