package backend

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	// connectTime is what a pod that the next lookup finds has to get connected.
	connectTime = 500 * time.Millisecond
	// A held call leaves this share of its time for its failure, so that its caller reads why.
	failureShare = 10
)

// waiting holds calls for as long as no pod is connected, and has the pods looked up at once: a pod becomes ready a moment
// before its name is asked for the next time. A held call goes on when a pod is connected, or fails as it would have.
type waiting struct {
	limit    time.Duration
	pool     *pool
	observer Observer
}

func newWaiting(pods *pool, options Options) *waiting {
	return &waiting{limit: options.ResolveInterval + connectTime, pool: pods, observer: options.Observer}
}

func (w *waiting) unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	w.hold(ctx, method, conn)
	return invoke(ctx, method, request, reply, conn, options...)
}

func (w *waiting) stream(ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	w.hold(ctx, method, conn)
	return open(ctx, description, conn, method, options...)
}

// hold returns when a pod is connected, or waiting is no longer worth it. Not held are calls for one certain pod, and the
// question whether a server is ready, whose answer is about now.
func (w *waiting) hold(ctx context.Context, method string, conn *grpc.ClientConn) {
	if conn.GetState() == connectivity.Ready || method == pb.GRPCInferenceService_ServerReady_FullMethodName {
		return
	}
	if _, pinned := pinnedIn(ctx); pinned {
		return
	}
	limit := w.limit
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		limit = min(limit, left-left/failureShare)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	trace.SpanFromContext(ctx).AddEvent("no pod is connected: held")
	w.pool.want()
	w.observer.Held(connected(ctx, conn))
}

// connected waits until a pod is, and returns false where ctx ends first.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.Shutdown || !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// want asks for a lookup ahead of its time.
func (p *pool) want() {
	select {
	case p.wanted <- struct{}{}:
	default: // one is asked for already
	}
}
