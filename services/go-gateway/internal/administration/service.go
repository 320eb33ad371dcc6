// Package administration serves those calls that concern every inference server and not one of them: statistics, the model
// repository, trace and log settings, shared memory. REST and gRPC both call it.
//
// What reads asks the pods that are connected, and joins their answers; what changes goes to all that are known, at once.
// A pod that fails fails the call, and the error names the pods that failed and those that did it: such a call may be
// repeated. A pod that starts later has what its own settings say.
package administration

import (
	"context"
	"log/slog"
	"slices"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Pods are the inference servers; backend.Backend is one.
type Pods interface {
	// Members are the addresses that are connected.
	Members() []string
	// Status are all that are known.
	Status() []backend.Status
}

// Options are what the service works with; all are required.
type Options struct {
	// Client calls one pod, and heeds backend.Pin.
	Client pb.GRPCInferenceServiceClient
	Pods   Pods
	Policy access.Policy
	// SharedMemory says whether callers may register shared memory: gateway and servers are on one machine.
	SharedMemory bool
	Logger       *slog.Logger
}

// Service answers the calls that Serves names; the others it leaves unimplemented.
type Service struct {
	pb.UnimplementedGRPCInferenceServiceServer
	Options
}

// New makes the service.
func New(options Options) *Service { return &Service{Options: options} }

// served are the RPCs that don't go to one pod as they come.
var served = []string{
	"ServerMetadata", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
	"SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
	"CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
}

// Serves says whether the service answers an RPC, by the RPC's name without the service's.
func Serves(rpc string) bool { return slices.Contains(served, rpc) }

// The extensions that the gateway adds to what the pods serve, and those that it may keep from callers.
var (
	ownExtensions    = []string{"binary_tensor_data", "generate"}
	memoryExtensions = []string{"system_shared_memory", "cuda_shared_memory"}
)

// ServerMetadata is one pod's, with the extensions that callers of the gateway have.
func (s *Service) ServerMetadata(ctx context.Context, request *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	response, err := backend.Call(ctx, s.Client.ServerMetadata, request)
	if err != nil {
		return nil, err
	}
	response.Extensions = slices.DeleteFunc(response.Extensions, func(extension string) bool {
		return slices.Contains(ownExtensions, extension) || !s.SharedMemory && slices.Contains(memoryExtensions, extension)
	})
	response.Extensions = append(response.Extensions, ownExtensions...)
	return response, nil
}

// RepositoryModelLoad loads a model everywhere.
func (s *Service) RepositoryModelLoad(ctx context.Context, request *pb.RepositoryModelLoadRequest) (*pb.RepositoryModelLoadResponse, error) {
	if err := s.Policy.Change("loaded models"); err != nil {
		return nil, err
	}
	response, err := everywhere(ctx, s, s.Client.RepositoryModelLoad, request)
	s.noted(ctx, err, "load", request.GetModelName())
	return response, err
}

// RepositoryModelUnload unloads a model everywhere.
func (s *Service) RepositoryModelUnload(ctx context.Context, request *pb.RepositoryModelUnloadRequest) (*pb.RepositoryModelUnloadResponse, error) {
	if err := s.Policy.Change("loaded models"); err != nil {
		return nil, err
	}
	response, err := everywhere(ctx, s, s.Client.RepositoryModelUnload, request)
	s.noted(ctx, err, "unload", request.GetModelName())
	return response, err
}

// TraceSetting reads trace settings, which are the same everywhere, or changes them.
func (s *Service) TraceSetting(ctx context.Context, request *pb.TraceSettingRequest) (*pb.TraceSettingResponse, error) {
	if len(request.GetSettings()) == 0 {
		return first(ctx, s, s.Client.TraceSetting, request)
	}
	if err := s.Policy.Change("trace settings"); err != nil {
		return nil, err
	}
	response, err := everywhere(ctx, s, s.Client.TraceSetting, request)
	s.noted(ctx, err, "trace settings", request.GetModelName())
	return response, err
}

// LogSettings reads the servers' log settings, which are the same everywhere, or changes them.
func (s *Service) LogSettings(ctx context.Context, request *pb.LogSettingsRequest) (*pb.LogSettingsResponse, error) {
	if len(request.GetSettings()) == 0 {
		return first(ctx, s, s.Client.LogSettings, request)
	}
	if err := s.Policy.Change("log settings"); err != nil {
		return nil, err
	}
	response, err := everywhere(ctx, s, s.Client.LogSettings, request)
	s.noted(ctx, err, "log settings", "")
	return response, err
}

// noted logs a change that was made; one that failed is logged at the edge, as any failed call.
func (s *Service) noted(ctx context.Context, err error, change, model string) {
	if err == nil {
		s.Logger.InfoContext(ctx, "Changed the inference servers", "change", change, "model", model, "servers", len(s.known()))
	}
}

// known are the addresses of all pods, connected or not.
func (s *Service) known() []string {
	status := s.Pods.Status()
	addresses := make([]string, len(status))
	for index, pod := range status {
		addresses[index] = pod.Address
	}
	return addresses
}
