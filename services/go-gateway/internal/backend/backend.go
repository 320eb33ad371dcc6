// Package backend is the gateway's connection to the inference pods: one gRPC channel over all of them.
//
// Pods are found by polling the DNS name of their headless Service, each with a worker process per port, or are listed as Unix
// sockets (resolver.go); a call goes to the member with the fewest calls outstanding (picker.go) or to the one that it is
// pinned to (route.go); a member whose calls fail is put aside and tried again later (member.go); a call that certainly did
// not run is sent once more, to another member (retry.go); calls of ModelInfer that fit (fit.go) travel as messages of a stream
// that stays open to each member (lanes.go). Nothing here asks the Kubernetes API.
package backend

import (
	"context"
	"log/slog"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

const (
	// Flow-control windows for tensors of megabytes; fixed, so that no bandwidth probes share the connection with them.
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 8 << 20
	// A pod that vanished without closing its connection is noticed after keepaliveTime + keepaliveTimeout. The inference
	// server ends connections that ping more often than every 10 s.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 5 * time.Second
	connectTimeout   = 3 * time.Second
)

// reconnecting is fast, because a restarted pod keeps its address; a pod that is gone leaves with the next DNS answer.
var reconnecting = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// Options says where the pods are and what the channel needs from outside.
type Options struct {
	Host            string // DNS name of the headless Service, or an IP address
	Ports           []int  // of every pod: a worker process listens on each
	ResolveInterval time.Duration
	Sockets         []string         // absolute paths of Unix sockets, instead of Host and Ports
	Lookup          Lookup           // nil: the system's resolver
	Now             func() time.Time // nil: the clock
	Stats           stats.Handler    // nil: none
	Observer        Observer
	Logger          *slog.Logger
	LaneAge         time.Duration // when a lane is replaced; 0: after half a minute
}

// Observer is told what happens, for metrics. Its methods are called concurrently.
type Observer interface {
	Resolved(pods int)
	ResolveFailed()
	Retried(reason string)
	// Held tells that a call waited for a pod, and whether one was connected in time.
	Held(connected bool)
	// Sent tells that a call of ModelInfer was sent, and how: one of Ways.
	Sent(way string)
}

// Status is one pod as the gateway sees it now.
type Status struct {
	Address     string
	Connection  connectivity.State
	Outstanding int
	Calls       uint64 // since the pod is known
	PutAside    bool
	Lane        bool // one is open
}

// Backend is the channel to all inference pods. Use Conn for calls.
type Backend struct {
	Conn  *grpc.ClientConn
	pool  *pool
	lanes *lanes
}

// New starts to look for pods and to connect to them; it doesn't wait for any.
func New(options Options) (*Backend, error) {
	pods := newPool(options)
	finder := &resolverBuilder{options: options, pool: pods}
	held, fast := newWaiting(pods, options), newLanes(pods, options)
	dial := []grpc.DialOption{
		grpc.WithResolvers(finder),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // mutual TLS is the mesh's
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + balancerName + `": {}}]}`),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnecting, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connectionWindowBytes),
		// Requests are bounded where they enter the gateway, responses by the inference server.
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(math.MaxInt32), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithChainUnaryInterceptor(held.unary, retryElsewhere(pods, options.Observer), fast.unary),
		grpc.WithChainStreamInterceptor(held.stream),
	}
	if options.Stats != nil {
		dial = append(dial, grpc.WithStatsHandler(options.Stats))
	}
	conn, err := grpc.NewClient(scheme+":///pods", dial...)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	return &Backend{Conn: conn, pool: pods, lanes: fast}, nil
}

// Members are the addresses that are connected now, sorted: ip:port, or unix:path.
func (b *Backend) Members() []string {
	return b.pool.connected()
}

// Idlest is the address of the connected member that a call would go to if those that are busy were not there; false where that
// leaves none that may be called. Where no member is connected it is "", which can be busy too.
func (b *Backend) Idlest(busy func(address string) bool) (address string, ok bool) {
	return b.pool.idlest(busy)
}

// Notify calls changed whenever a member becomes connected or is taken back, from then on.
func (b *Backend) Notify(changed func()) {
	b.pool.notify(changed)
}

// Status lists the pods in the order of their addresses.
func (b *Backend) Status() []Status {
	return b.pool.status()
}

// Watch calls changed with whether any pod is connected, first now and then at each change, until ctx ends.
func (b *Backend) Watch(ctx context.Context, changed func(connected bool)) {
	for {
		state := b.Conn.GetState()
		changed(state == connectivity.Ready)
		if !b.Conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// Close ends the search for pods, and every connection.
func (b *Backend) Close() error {
	err := b.Conn.Close()
	b.lanes.end()
	return err
}
