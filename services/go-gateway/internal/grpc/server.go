// Package grpc serves the Open Inference Protocol's gRPC service by passing it through to the inference pods: messages as
// bytes, metadata, deadline, status and details as they are. ServerLive is answered here, as is grpc.health.v1.
package grpc

import (
	"context"
	"log/slog"
	"math"
	"net"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 8 << 20
	maxHeaderBytes        = 64 << 10
	// grpc-go refuses a message by itself, before any handler could name the setting and the code. Only messages beyond
	// limitSlack times the limit are left to it; those between are read and refused here.
	limitSlack       = 2
	maxStreams       = 1000 // of one connection; more wait at the caller
	handshakeTimeout = 10 * time.Second
)

// Options are what the server works with; Stats may be nil.
type Options struct {
	// Backend calls the inference pods.
	Backend grpc.ClientConnInterface
	// Administration answers the calls that concern all pods.
	Administration *administration.Service
	Policy         access.Policy
	// Batcher joins inference requests for the models that it knows; nil joins none.
	Batcher         *batch.Batcher
	MaxRequestBytes int64
	// DefaultTimeout is the deadline of a unary call whose caller names none. Streams have none then.
	DefaultTimeout time.Duration
	// MaxConnectionAge is when a connection ends, give or take a tenth, once its calls are done; 0: never.
	MaxConnectionAge time.Duration
	Stats            stats.Handler
	Logger           *slog.Logger
	Metrics          Metrics
}

// Metrics counts calls.
type Metrics interface {
	// Observe counts an answered call by service, method, gRPC status and error code ("" on success).
	Observe(service, method string, status int, code string, seconds float64)
	InFlight(delta int)
}

// Server is the gRPC listener's server.
type Server struct {
	server *grpc.Server
	health *health.Server
}

// New makes the server. Its health is NOT_SERVING until SetServing says otherwise.
func New(options Options) *Server {
	settings := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.UnknownServiceHandler(newPassthrough(options).handle),
		grpc.MaxRecvMsgSize(int(min(limitSlack*options.MaxRequestBytes, math.MaxInt32))),
		grpc.MaxSendMsgSize(math.MaxInt32), // responses are bounded by the inference server
		grpc.InitialWindowSize(streamWindowBytes),
		grpc.InitialConnWindowSize(connectionWindowBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionAge: options.MaxConnectionAge}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		// Goroutines that stay keep the stack that a call has grown. Where all are busy, a call gets one of its own.
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
	}
	if options.Stats != nil {
		settings = append(settings, grpc.StatsHandler(options.Stats))
	}
	s := &Server{server: grpc.NewServer(settings...), health: health.NewServer()}
	healthpb.RegisterHealthServer(s.server, s.health)
	s.SetServing(false)
	return s
}

// Serve takes calls until Drain or Stop.
func (s *Server) Serve(listener net.Listener) error {
	return s.server.Serve(listener)
}

// SetServing is what grpc.health.v1 answers, for the whole server and for the inference service: whether a call would find a
// pod. After Draining it stays NOT_SERVING.
func (s *Server) SetServing(serving bool) {
	answer := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		answer = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", pb.GRPCInferenceService_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, answer)
	}
}

// Draining tells health checkers to send no more calls; calls are still served.
func (s *Server) Draining() {
	s.health.Shutdown()
}

// Drain takes no new calls and returns when the running ones have ended; when ctx ends before, it ends them.
func (s *Server) Drain(ctx context.Context) error {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.server.GracefulStop()
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		s.server.Stop()
		<-drained
		return ctx.Err()
	}
}
