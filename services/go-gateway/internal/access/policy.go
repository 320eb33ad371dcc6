// Package access says what callers may do: which APIs ask for a header, and whether the servers may be changed.
package access

import (
	"crypto/subtle"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// HeaderPrefix stands before a restriction's header where the call is gRPC, as in Triton.
// https://github.com/triton-inference-server/server/blob/main/docs/customization_guide/inference_protocols.md
const HeaderPrefix = "triton-grpc-protocol-"

// API is a group of calls that can be restricted.
type API string

// The APIs, under Triton's names.
const (
	Health          API = "health"
	Metadata        API = "metadata"
	Inference       API = "inference"
	SharedMemory    API = "shared-memory"
	ModelConfig     API = "model-config"
	ModelRepository API = "model-repository"
	Statistics      API = "statistics"
	Trace           API = "trace"
	Logging         API = "logging"
)

// APIs are all of them.
var APIs = []API{Health, Metadata, Inference, SharedMemory, ModelConfig, ModelRepository, Statistics, Trace, Logging}

// apis is the API of every RPC of the contract, by the RPC's name.
var apis = map[string]API{
	"ServerLive": Health, "ServerReady": Health, "ModelReady": Health,
	"ServerMetadata": Metadata, "ModelMetadata": Metadata,
	"ModelInfer": Inference, "ModelStreamInfer": Inference,
	"ModelConfig":     ModelConfig,
	"ModelStatistics": Statistics,
	"RepositoryIndex": ModelRepository, "RepositoryModelLoad": ModelRepository, "RepositoryModelUnload": ModelRepository,
	"SystemSharedMemoryStatus": SharedMemory, "SystemSharedMemoryRegister": SharedMemory, "SystemSharedMemoryUnregister": SharedMemory,
	"CudaSharedMemoryStatus": SharedMemory, "CudaSharedMemoryRegister": SharedMemory, "CudaSharedMemoryUnregister": SharedMemory,
	"TraceSetting": Trace,
	"LogSettings":  Logging,
}

// Of is the API that an RPC belongs to, by its name without the service's.
func Of(rpc string) API { return apis[rpc] }

// Restriction admits to an API only who sends a header.
type Restriction struct {
	Header, Value string
}

// Policy is what callers may do.
type Policy struct {
	// ReadOnly refuses what changes the servers: loading, unloading, trace and log settings.
	ReadOnly bool
	// Restrictions are by API; one that is absent is open.
	Restrictions map[API]Restriction
}

// Admit fails with PERMISSION_DENIED where the API is restricted and the call, whose headers are read by name, lacks the header.
func (p Policy) Admit(api API, header func(name string) string) error {
	restriction, ok := p.Restrictions[api]
	if !ok || subtle.ConstantTimeCompare([]byte(header(restriction.Header)), []byte(restriction.Value)) == 1 {
		return nil
	}
	return apierr.New(apierr.PermissionDenied, "this API (%s) is restricted, expecting header '%s' with its value; see administration.restricted", api, restriction.Header)
}

// Change fails with PERMISSION_DENIED where nothing may be changed; what is a plural.
func (p Policy) Change(what string) error {
	if !p.ReadOnly {
		return nil
	}
	return apierr.New(apierr.PermissionDenied, "%s cannot be changed: the gateway's setting administration.mode is ReadOnly; set it to Full to allow it", what)
}
