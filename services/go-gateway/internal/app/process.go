package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"golang.org/x/sync/errgroup"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/grpc"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/rest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

// process is a gateway that has its ports.
type process struct {
	listeners    listeners
	backend      *backend.Backend
	rest, admin  *http.Server
	grpc         *grpc.Server
	draining     *atomic.Bool
	endStreams   func()
	drainTimeout time.Duration
	metrics      *telemetry.Metrics
	logger       *slog.Logger
}

// open takes the ports and starts to look for pods. Nothing is served until run.
func open(ctx context.Context, settings config.Config, metrics *telemetry.Metrics, logger *slog.Logger) (*process, error) {
	ports, err := listen(ctx, settings.Listen)
	if err != nil {
		return nil, err
	}
	pods, err := backend.New(backend.Options{
		Host:            settings.Backend.Host,
		Ports:           settings.Backend.Ports,
		ResolveInterval: settings.Backend.ResolveInterval,
		Sockets:         settings.Backend.Sockets,
		Stats:           telemetry.SampledOnly(otelgrpc.NewClientHandler()),
		Observer:        metrics,
		Logger:          logger,
	})
	if err != nil {
		ports.close()
		return nil, err
	}
	metrics.WatchBackends(pods.Status)
	client, policy := pb.NewGRPCInferenceServiceClient(pods.Conn), settings.Administration.Policy()
	batcher := batch.New(batch.Options{ //nolint:contextcheck // a batch lives in the contexts of its requests
		Models:   batchedModels(settings.Models),
		MaxBytes: settings.Limits.MaxRequestBytes,
		Infer:    client.ModelInfer,
		Pods:     pods,
		Logger:   logger,
		Metrics:  func(model string) batch.Metrics { return metrics.Batches(model) },
	})
	service := administration.New(administration.Options{
		Client: client, Pods: pods, Policy: policy, SharedMemory: settings.SharedMemory.Enabled, Logger: logger,
	})
	draining, ending := new(atomic.Bool), make(chan struct{})
	return &process{
		listeners: ports,
		backend:   pods,
		rest: restServer(draining, settings.Limits.MaxConnectionAge, logger, rest.New(rest.Options{ //nolint:contextcheck // handlers have the context of their request
			Client:          batch.Client{GRPCInferenceServiceClient: client, Batcher: batcher},
			Administration:  service,
			Policy:          policy,
			MaxRequestBytes: settings.Limits.MaxRequestBytes,
			DefaultTimeout:  settings.Limits.DefaultTimeout,
			Streaming: rest.Streaming{
				FirstResponse:    settings.Streaming.FirstResponseTimeout,
				BetweenResponses: settings.Streaming.ResponseTimeout,
				Total:            settings.Streaming.TotalTimeout,
				WriteTimeout:     settings.Streaming.WriteTimeout,
				Heartbeat:        settings.Streaming.HeartbeatInterval,
				Ending:           ending,
				Metrics:          metrics.Streams(),
			},
			Logger:  logger,
			Metrics: metrics.Calls("rest"),
		})),
		grpc: grpc.New(grpc.Options{ //nolint:contextcheck // as do these
			Backend:          pods.Conn,
			Batcher:          batcher,
			Administration:   service,
			Policy:           policy,
			MaxRequestBytes:  settings.Limits.MaxRequestBytes,
			DefaultTimeout:   settings.Limits.DefaultTimeout,
			MaxConnectionAge: settings.Limits.MaxConnectionAge,
			Stats:            otelgrpc.NewServerHandler(otelgrpc.WithFilter(filters.Not(filters.HealthCheck()))),
			Logger:           logger,
			Metrics:          metrics.Calls("grpc"),
		}),
		admin:        adminServer(draining, logger, metrics.Handler()),
		draining:     draining,
		endStreams:   func() { close(ending) },
		drainTimeout: settings.Drain.Timeout,
		metrics:      metrics,
		logger:       logger,
	}, nil
}

func batchedModels(models []config.Model) map[string]batch.Limits {
	batched := map[string]batch.Limits{}
	for _, model := range models {
		if model.Batching != nil {
			batched[model.Name] = batch.Limits{MaxSize: model.Batching.MaxSize, MaxDelay: model.Batching.MaxDelay}
		}
	}
	return batched
}

// run serves until ctx ends or a listener fails, drains, and returns when nothing of the process is left running.
func (p *process) run(ctx context.Context) error {
	group, serving := errgroup.WithContext(ctx)
	group.Go(func() error {
		return serveHTTP(p.rest, rest.Listener{Listener: counted{p.listeners.rest, p.metrics.Calls("rest")}})
	})
	group.Go(func() error { return serveHTTP(p.admin, p.listeners.admin) })
	group.Go(func() error { return p.grpc.Serve(counted{p.listeners.grpc, p.metrics.Calls("grpc")}) })
	group.Go(func() error {
		p.backend.Watch(serving, p.grpc.SetServing)
		return nil
	})
	group.Go(func() error {
		<-serving.Done()
		p.drain(context.WithoutCancel(ctx))
		return nil
	})
	return errors.Join(group.Wait(), p.backend.Close())
}

func serveHTTP(server *http.Server, listener net.Listener) error {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
