package rest

import (
	"context"
	"net/http"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func (b *pod) ModelConfig(ctx context.Context, request *pb.ModelConfigRequest) (*pb.ModelConfigResponse, error) {
	if err := served(ctx, request.GetName(), request.GetVersion()); err != nil {
		return nil, err
	}
	config := &pb.ModelConfig{Name: request.GetName(), MaxBatchSize: 32}
	if b.stream != nil {
		config.ModelTransactionPolicy = &pb.ModelTransactionPolicy{Decoupled: true}
	}
	return &pb.ModelConfigResponse{Config: config}, nil
}

func (b *pod) ModelStatistics(ctx context.Context, request *pb.ModelStatisticsRequest) (*pb.ModelStatisticsResponse, error) {
	if name := request.GetName(); name != "" {
		if err := served(ctx, name, request.GetVersion()); err != nil {
			return nil, err
		}
	}
	return &pb.ModelStatisticsResponse{ModelStats: []*pb.ModelStatistics{{Name: "digits", Version: "1", InferenceCount: 3}}}, nil
}

func (b *pod) RepositoryIndex(context.Context, *pb.RepositoryIndexRequest) (*pb.RepositoryIndexResponse, error) {
	return &pb.RepositoryIndexResponse{Models: []*pb.RepositoryIndexResponse_ModelIndex{{Name: "digits", State: "READY"}, {Name: "words", State: "LOADING"}}}, nil
}

func (b *pod) RepositoryModelLoad(ctx context.Context, request *pb.RepositoryModelLoadRequest) (*pb.RepositoryModelLoadResponse, error) {
	return &pb.RepositoryModelLoadResponse{}, served(ctx, request.GetModelName(), "")
}

func (b *pod) RepositoryModelUnload(ctx context.Context, request *pb.RepositoryModelUnloadRequest) (*pb.RepositoryModelUnloadResponse, error) {
	return &pb.RepositoryModelUnloadResponse{}, served(ctx, request.GetModelName(), "")
}

// TraceSetting answers with what it was sent, and the model's name.
func (b *pod) TraceSetting(_ context.Context, request *pb.TraceSettingRequest) (*pb.TraceSettingResponse, error) {
	settings := map[string]*pb.TraceSettingResponse_SettingValue{"model": {Value: []string{request.GetModelName()}}}
	for name, value := range request.GetSettings() {
		settings[name] = &pb.TraceSettingResponse_SettingValue{Value: value.GetValue()}
	}
	return &pb.TraceSettingResponse{Settings: settings}, nil
}

// LogSettings tells which header came with the call.
func (b *pod) LogSettings(ctx context.Context, _ *pb.LogSettingsRequest) (*pb.LogSettingsResponse, error) {
	sent := ""
	for _, value := range metadata.ValueFromIncomingContext(ctx, "triton-grpc-protocol-x-admin") {
		sent = value
	}
	return &pb.LogSettingsResponse{Settings: map[string]*pb.LogSettingsResponse_SettingValue{
		"log_file": {ParameterChoice: &pb.LogSettingsResponse_SettingValue_StringParam{StringParam: sent}},
	}}, nil
}

func (b *pod) SystemSharedMemoryStatus(_ context.Context, request *pb.SystemSharedMemoryStatusRequest) (*pb.SystemSharedMemoryStatusResponse, error) {
	region := &pb.SystemSharedMemoryStatusResponse_RegionStatus{Name: request.GetName(), Key: "/k", ByteSize: 64}
	return &pb.SystemSharedMemoryStatusResponse{Regions: map[string]*pb.SystemSharedMemoryStatusResponse_RegionStatus{"r": region}}, nil
}

func (b *pod) SystemSharedMemoryRegister(ctx context.Context, request *pb.SystemSharedMemoryRegisterRequest) (*pb.SystemSharedMemoryRegisterResponse, error) {
	if request.GetKey() != "/k" || request.GetByteSize() != 64 {
		return nil, failed(ctx, apierr.InvalidRequest, "not the region that was sent: %v", request)
	}
	return &pb.SystemSharedMemoryRegisterResponse{}, nil
}

func (b *pod) SystemSharedMemoryUnregister(context.Context, *pb.SystemSharedMemoryUnregisterRequest) (*pb.SystemSharedMemoryUnregisterResponse, error) {
	return &pb.SystemSharedMemoryUnregisterResponse{}, nil
}

func TestAdministrativeRoutesAnswerAsTritonDoes(t *testing.T) {
	const (
		counted   = `{"count":0,"ns":0}`
		inference = `{"success":` + counted + `,"fail":` + counted + `,"queue":` + counted + `,"compute_input":` + counted + `,"compute_infer":` + counted +
			`,"compute_output":` + counted + `,"cache_hit":` + counted + `,"cache_miss":` + counted + `}`
		statistics = `{"model_stats":[{"name":"digits","version":"1","last_inference":0,"inference_count":3,"execution_count":0,"inference_stats":` + inference +
			`,"batch_stats":[],"memory_usage":[],"response_stats":{}}]}`
	)
	g := newGateway(t, &pod{}, nil)
	for _, test := range []struct{ method, path, body, want string }{
		{"GET", "/v2/models/stats", "", statistics},
		{"GET", "/v2/models/digits/stats", "", statistics},
		{"GET", "/v2/models/%64igits/versions/1/stats", "", statistics},
		{"POST", "/v2/repository/index", "", `[{"name":"digits","state":"READY"},{"name":"words","state":"LOADING"}]`},
		{"POST", "/v2/repository/index", `{"ready":true}`, `[{"name":"digits","state":"READY"}]`},
		{"POST", "/v2/repository/models/digits/load", "", ""},
		{"POST", "/v2/repository/models/digits/unload", `{"parameters":{"unload_dependents":false}}`, ""},
		{"GET", "/v2/trace/setting", `{"trace_rate":"5"}`, `{"model":""}`},
		{"POST", "/v2/trace/setting", `{"trace_rate":"5","trace_level":["OFF"]}`, `{"model":"","trace_level":["OFF"],"trace_rate":"5"}`},
		{"GET", "/v2/models/digits/trace/setting", "", `{"model":"digits"}`},
		{"POST", "/v2/models/digits/trace/setting", `{"trace_rate":null}`, `{"model":"digits","trace_rate":[]}`},
		{"GET", "/v2/logging", "", `{"log_file":""}`},
		{"POST", "/v2/logging", `{"log_info":true}`, `{"log_file":""}`},
		{"GET", "/v2/systemsharedmemory/status", "", `[{"name":"","key":"/k","offset":0,"byte_size":64}]`},
		{"GET", "/v2/systemsharedmemory/region/r/status", "", `[{"name":"r","key":"/k","offset":0,"byte_size":64}]`},
		{"POST", "/v2/systemsharedmemory/region/r/register", `{"key":"/k","byte_size":64}`, ""},
		{"POST", "/v2/systemsharedmemory/region/r/unregister", "", ""},
		{"POST", "/v2/systemsharedmemory/unregister", "", ""},
	} {
		t.Run(test.method+" "+test.path+" "+test.body, func(t *testing.T) {
			got := g.call(t, test.method, test.path, test.body)
			if got.status != http.StatusOK || got.body != test.want {
				t.Errorf("got %d %s\nwant 200 %s", got.status, got.body, test.want)
			}
		})
	}
	config := g.call(t, "GET", "/v2/models/digits/config", "")
	if want := `{"name":"digits","platform":"","max_batch_size":32,"input":[],"output":[],`; config.status != http.StatusOK || config.body[:len(want)] != want {
		t.Errorf("got %d %s, want 200 %s…", config.status, config.body, want)
	}
}

func TestAdministrativeCallsThatAreWrongAreRefused(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"statistics of an unknown model": {"GET", "/v2/models/none/stats", "", 404, "MODEL_NOT_FOUND"},
		"its configuration":              {"GET", "/v2/models/none/config", "", 404, "MODEL_NOT_FOUND"},
		"loading it":                     {"POST", "/v2/repository/models/none/load", "", 404, "MODEL_NOT_FOUND"},
		"an index of no JSON":            {"POST", "/v2/repository/index", "x", 400, "INVALID_REQUEST"},
		"a load of no JSON":              {"POST", "/v2/repository/models/digits/load", "[]", 400, "INVALID_REQUEST"},
		"trace settings of no JSON":      {"POST", "/v2/trace/setting", "7", 400, "INVALID_REQUEST"},
		"log settings of no JSON":        {"POST", "/v2/logging", `{"log_info":{}}`, 400, "INVALID_REQUEST"},
		"a region without a key":         {"POST", "/v2/systemsharedmemory/region/r/register", "", 400, "INVALID_REQUEST"},
		"a region whose name is no text": {"GET", "/v2/systemsharedmemory/region/%ff/status", "", 400, "INVALID_REQUEST"},
		"CUDA memory":                    {"POST", "/v2/cudasharedmemory/region/r/register", "", 501, "UNSUPPORTED"},
		"CUDA memory's status":           {"GET", "/v2/cudasharedmemory/status", "", 501, "UNSUPPORTED"},
	} {
		got := g.call(t, test.method, test.path, test.body)
		if code, message, _ := got.failure(t); got.status != test.status || code != test.code {
			t.Errorf("%s: got %d %s %q, want %d %s", name, got.status, code, message, test.status, test.code)
		}
	}
}

func TestRestrictedRoutesNeedTheirHeaderAndPassItOn(t *testing.T) {
	g := newGateway(t, &pod{}, func(options *Options) {
		options.Policy.Restrictions = map[access.API]access.Restriction{access.Logging: {Header: "X-Admin", Value: "sesame"}}
	})
	for name, headers := range map[string][]string{"none": nil, "another value": {"X-Admin: open"}} {
		got := g.call(t, "GET", "/v2/logging", "", headers...)
		if code, message, _ := got.failure(t); got.status != http.StatusForbidden || code != "PERMISSION_DENIED" ||
			message != "this API (logging) is restricted, expecting header 'X-Admin' with its value; see administration.restricted" {
			t.Errorf("%s: got %d %s %q", name, got.status, code, message)
		}
	}
	if got := g.call(t, "GET", "/v2/logging", "", "x-admin: sesame"); got.status != http.StatusOK || got.body != `{"log_file":"sesame"}` {
		t.Errorf("with the header: got %d %s", got.status, got.body)
	}
	if got := g.call(t, "GET", "/v2/trace/setting", ""); got.status != http.StatusOK {
		t.Errorf("an API that is open: got %d %s", got.status, got.body)
	}
}
