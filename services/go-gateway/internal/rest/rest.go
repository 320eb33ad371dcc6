// Package rest serves the Open Inference Protocol v2 over HTTP: it translates each call to gRPC for the backends and every
// failure to the body {"error", "code", "traceId"}.
//
// Health and metadata answer 200 with JSON or fail; a server or model that is not ready is a failure (503), because
// clients look at the status alone. Request bodies are JSON whatever their Content-Type says, as in Triton; what tells
// binary tensors is the header Inference-Header-Content-Length.
package rest

import (
	"log/slog"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Options are what the handler works with; all are required.
type Options struct {
	// Client calls the backends.
	Client pb.GRPCInferenceServiceClient
	// Administration answers the calls that concern all pods.
	Administration *administration.Service
	Policy         access.Policy
	// MaxRequestBytes bounds a request, as JSON and as the gRPC message that it becomes.
	MaxRequestBytes int64
	// DefaultTimeout is the deadline of a call whose caller names none.
	DefaultTimeout time.Duration
	Streaming      Streaming
	Logger         *slog.Logger
	Metrics        Metrics
}

// Metrics counts calls.
type Metrics interface {
	// Observe counts an answered call. The route is a template, the method a known one or _OTHER, the code "" on success.
	Observe(route, method string, status int, code string, seconds float64)
	// InFlight changes the number of calls being served.
	InFlight(delta int)
}

// unmatchedRoute is what logs, metrics and spans call a path that is none of ours.
const unmatchedRoute = "unmatched"

type server struct {
	Options
	models *models
}

// route is one way to call the server; its path is a pattern of http.ServeMux.
type route struct {
	api    access.API
	method string
	path   string
	serve  handler
}

func (s *server) routes() []route {
	const model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
	return append(s.administrativeRoutes(),
		route{access.Metadata, http.MethodGet, "/openapi.json", inJSON(openAPI)},
		route{access.Metadata, http.MethodGet, "/v2", s.bounded(s.serverMetadata)},
		route{access.Metadata, http.MethodGet, "/v2/{$}", s.bounded(s.serverMetadata)},
		route{access.Health, http.MethodGet, "/v2/health/live", inJSON(s.live)},
		route{access.Health, http.MethodGet, "/v2/health/ready", inJSON(s.ready)},
		route{access.Metadata, http.MethodGet, model, s.ofModel(s.modelMetadata)},
		route{access.Metadata, http.MethodGet, version, s.ofModel(s.modelMetadata)},
		route{access.Health, http.MethodGet, model + "/ready", s.ofModel(s.modelReady)},
		route{access.Health, http.MethodGet, version + "/ready", s.ofModel(s.modelReady)},
		route{access.Inference, http.MethodPost, model + "/infer", s.infer},
		route{access.Inference, http.MethodPost, version + "/infer", s.infer},
		route{access.Inference, http.MethodPost, model + "/generate", s.generate},
		route{access.Inference, http.MethodPost, version + "/generate", s.generate},
		route{access.Inference, http.MethodPost, model + "/generate_stream", s.generateStream},
		route{access.Inference, http.MethodPost, version + "/generate_stream", s.generateStream},
	)
}

func (s *server) administrativeRoutes() []route {
	const (
		model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
		memory, region = "/v2/systemsharedmemory", "/v2/systemsharedmemory/region/{region}"
		cuda, handle   = "/v2/cudasharedmemory", "/v2/cudasharedmemory/region/{region}"
	)
	return []route{
		{access.ModelConfig, http.MethodGet, model + "/config", s.ofModel(s.modelConfig)},
		{access.ModelConfig, http.MethodGet, version + "/config", s.ofModel(s.modelConfig)},
		{access.Statistics, http.MethodGet, "/v2/models/stats", s.ofModel(s.statistics)},
		{access.Statistics, http.MethodGet, model + "/stats", s.ofModel(s.statistics)},
		{access.Statistics, http.MethodGet, version + "/stats", s.ofModel(s.statistics)},
		{access.ModelRepository, http.MethodPost, "/v2/repository/index", s.withBody(s.repositoryIndex)},
		{access.ModelRepository, http.MethodPost, "/v2/repository/models/{model}/load", s.ofRepository(s.load)},
		{access.ModelRepository, http.MethodPost, "/v2/repository/models/{model}/unload", s.ofRepository(s.unload)},
		{access.Trace, http.MethodGet, "/v2/trace/setting", s.withoutBody(s.traceSettings)},
		{access.Trace, http.MethodPost, "/v2/trace/setting", s.withBody(s.traceSettings)},
		{access.Trace, http.MethodGet, model + "/trace/setting", s.withoutBody(s.traceSettings)},
		{access.Trace, http.MethodPost, model + "/trace/setting", s.withBody(s.traceSettings)},
		{access.Logging, http.MethodGet, "/v2/logging", s.withoutBody(s.logSettings)},
		{access.Logging, http.MethodPost, "/v2/logging", s.withBody(s.logSettings)},
		{access.SharedMemory, http.MethodGet, memory + "/status", s.bounded(s.memoryStatus)},
		{access.SharedMemory, http.MethodPost, memory + "/unregister", s.bounded(s.memoryUnregister)},
		{access.SharedMemory, http.MethodGet, region + "/status", s.bounded(s.memoryStatus)},
		{access.SharedMemory, http.MethodPost, region + "/register", s.withBody(s.memoryRegister)},
		{access.SharedMemory, http.MethodPost, region + "/unregister", s.bounded(s.memoryUnregister)},
		{access.SharedMemory, http.MethodGet, cuda + "/status", s.bounded(s.cudaMemory)},
		{access.SharedMemory, http.MethodPost, cuda + "/unregister", s.bounded(s.cudaMemory)},
		{access.SharedMemory, http.MethodGet, handle + "/status", s.bounded(s.cudaMemory)},
		{access.SharedMemory, http.MethodPost, handle + "/register", s.bounded(s.cudaMemory)},
		{access.SharedMemory, http.MethodPost, handle + "/unregister", s.bounded(s.cudaMemory)},
	}
}

// New makes the handler of the REST port.
func New(options Options) http.Handler {
	s := &server{options, newModels(options.Client)}
	paths := map[string]methods{}
	for _, route := range s.routes() {
		if paths[route.path] == nil {
			paths[route.path] = methods{}
		}
		paths[route.path][route.method] = s.restricted(route.api, route.serve)
	}
	mux := http.NewServeMux()
	for path, methods := range paths {
		mux.Handle(path, s.handler(path, methods.serve))
	}
	unmatched := s.handler(unmatchedRoute, inJSON(routeNotFound))
	mux.Handle("/", unmatched)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isClean(r.URL.EscapedPath()) {
			mux.ServeHTTP(w, r)
			return
		}
		unmatched.ServeHTTP(w, r)
	})
}

// isClean reports whether a path is in the one form that is ours. The mux redirects others to it with a page of HTML, and
// so a client with an empty model name, /v2/models//infer, elsewhere.
func isClean(escaped string) bool {
	return escaped == "/" || strings.HasPrefix(escaped, "/") && path.Clean(escaped) == strings.TrimSuffix(escaped, "/")
}

// handler puts a handler into the layers that every call passes, outermost first: span, edge, trace id, request id, recovery.
func (s *server) handler(route string, serve handler) http.Handler {
	serve = withTraceID(withRequestID(withRecovery(serve)))
	return withSpan(route, s.edge(route, serve))
}

func routeNotFound(_ http.ResponseWriter, r *http.Request) ([]byte, error) {
	return nil, apierr.New(apierr.RouteNotFound, "no such path: %s; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer", r.URL.Path)
}

// methods are the handlers of one path by HTTP method. The mux knows paths alone: it would choose a path for its method
// before one for its words, and so take /v2/models/stats for a model's name.
type methods map[string]handler

func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http drops the body
	}
	if serve, ok := m[method]; ok {
		return serve(w, r)
	}
	allowed := slices.Sorted(maps.Keys(m))
	if _, ok := m[http.MethodGet]; ok {
		allowed = slices.Insert(allowed, 1, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return apierr.New(apierr.MethodNotAllowed, "%s takes %s, not %s", r.URL.Path, strings.Join(allowed, " and "), r.Method)
}

// knownMethod bounds what a caller can put into span names and metric labels, as OpenTelemetry's conventions ask.
func knownMethod(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return r.Method
	}
	return "_OTHER"
}
