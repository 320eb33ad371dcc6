package backend

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/lane"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	// A lane that is so old, give or take a tenth, is replaced, or closed where no call used it. A proxy that gets other settings
	// ends connections after a while, Istio's after 45 s, and tells only its neighbours before.
	laneAge       = 30 * time.Second
	laneAgeJitter = 0.1
	// A pod whose lane failed is asked for another after laneRetryFirst, and then after twice the time, to laneRetryMost; a
	// pod that offers none after laneAskFirst, to laneAskMost.
	laneRetryFirst = time.Second
	laneRetryMost  = time.Minute
	laneAskFirst   = time.Minute
	laneAskMost    = time.Hour
)

// lanes opens a lane to each member that is called, and sends the calls that fit by it. Where anything is in the way, the call goes
// as it always can: by itself.
type lanes struct {
	pool     *pool
	observer Observer
	age      time.Duration
	ctx      context.Context //nolint:containedctx // of all lanes, which outlive every call
	cancel   context.CancelFunc
	running  sync.WaitGroup // begun under the pool's lock, and not after close
}

// laneRecord is what a member knows of its lane; the pool's lock guards it.
type laneRecord struct {
	open    *lane.Lane // takes calls; nil: none does
	opening bool
	due     time.Time // none is opened before
	pause   time.Duration
	refused bool // the pod said that it offers none
}

func newLanes(pods *pool, options Options) *lanes {
	ctx, cancel := context.WithCancel(context.Background())
	age := options.LaneAge
	if age == 0 {
		age = laneAge
	}
	return &lanes{pool: pods, observer: options.Observer, age: age, ctx: ctx, cancel: cancel}
}

// unary makes a call by lane, or passes it on.
func (l *lanes) unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if method != pb.GRPCInferenceService_ModelInfer_FullMethodName {
		return invoke(ctx, method, request, reply, conn, options...)
	}
	way, trailer, err := l.carry(ctx, request, reply, conn, options)
	l.observer.Sent(way)
	if way != WayLane {
		return invoke(ctx, method, request, reply, conn, options...)
	}
	for _, option := range options {
		if wanted, ok := option.(grpc.TrailerCallOption); ok {
			*wanted.TrailerAddr = trailer
		}
	}
	return err
}

// carry makes a call by the lane of the member that it would go to, or says why it has to go by itself.
func (l *lanes) carry(ctx context.Context, request, reply any, conn *grpc.ClientConn, options []grpc.CallOption) (way string, trailer metadata.MD, err error) {
	call, way := fit(ctx, request, reply, options)
	if way != WayLane {
		return way, nil, nil
	}
	route := routeIn(ctx)
	taken, open := l.pick(ctx, route, conn)
	if open == nil {
		return WayNotOpen, nil, nil
	}
	trailer, err = open.Do(ctx, &call)
	if err == lane.ErrNotSent { //nolint:errorlint // it is never wrapped
		taken.finish(nothing)
		if open.Stuck() {
			taken.member.leaveLane(open)
		}
		return WayFull, nil, nil
	}
	route.picked, route.failed, route.repeated = taken.member, err != nil, false
	taken.finish(judge(balancer.DoneInfo{Err: err, Trailer: trailer, BytesReceived: err == nil || ctx.Err() == nil}))
	return WayLane, trailer, err
}

// pick takes the member that the picker would take, if it has a lane. If not, one is opened for the calls that come later.
func (l *lanes) pick(ctx context.Context, route *route, conn *grpc.ClientConn) (ticket, *lane.Lane) {
	picker := l.pool.picker.Load()
	if picker == nil || ctx.Err() != nil {
		return ticket{}, nil
	}
	ready, err := picker.candidates(ctx, route)
	if err != nil {
		return ticket{}, nil
	}
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	best := p.best(ready, route.excluded, now)
	switch {
	case best == nil:
		return ticket{}, nil
	case best.lane.open != nil:
		return best.take(now), best.lane.open
	case !best.lane.opening && best.failures == 0 && !now.Before(best.lane.due):
		l.begin(best, conn) //nolint:contextcheck // a lane outlives the call
	}
	return ticket{}, nil
}

// begin opens a lane in the background; the caller holds the pool's lock.
func (l *lanes) begin(m *member, conn *grpc.ClientConn) {
	if l.ctx.Err() != nil {
		return
	}
	m.lane.opening = true
	l.running.Go(func() { l.run(m, conn) })
}

// run is the life of one lane.
func (l *lanes) run(m *member, conn *grpc.ClientConn) {
	opened, err := lane.Open(toOpenLane(l.ctx, m.address), conn)
	if err != nil {
		m.laneFailed(err)
		return
	}
	m.enterLane(opened)
	age := time.Duration(float64(l.age) * (1 - laneAgeJitter + 2*laneAgeJitter*rand.Float64())) //nolint:gosec // not a secret
	old := time.AfterFunc(age, func() { l.renew(m, opened, conn) })
	defer old.Stop()
	if err := opened.Receive(); err != nil {
		m.laneBroke(opened, err)
	}
	m.leaveLane(opened)
}

// renew opens the next lane, and only then leaves the old one, unless nobody used it.
func (l *lanes) renew(m *member, old *lane.Lane, conn *grpc.ClientConn) {
	if !old.Used() {
		m.leaveLane(old)
		return
	}
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	if m.lane.open == old && !m.lane.opening {
		l.begin(m, conn)
	}
}

// end waits until no lane is left. The connections are closed by then.
func (l *lanes) end() {
	l.pool.mu.Lock()
	l.cancel()
	l.pool.mu.Unlock()
	l.running.Wait()
}

// enterLane sends calls by this lane from now on; those that are under way in the one before it end there.
func (m *member) enterLane(opened *lane.Lane) {
	m.pool.mu.Lock()
	before := m.lane.open
	m.lane = laneRecord{open: opened}
	if m.connection != connectivity.Ready {
		m.lane.open, before = nil, opened // the connection ends, or has ended
	}
	m.pool.mu.Unlock()
	if before != nil {
		before.Retire()
	}
	m.pool.logger.Debug("Opened a lane to a pod", "pod", m.address)
}

// leaveLane sends no more calls by this lane.
func (m *member) leaveLane(open *lane.Lane) {
	m.pool.mu.Lock()
	if m.lane.open == open {
		m.lane.open = nil
	}
	m.pool.mu.Unlock()
	open.Retire()
}

// laneFailed notes that no lane could be opened. One that is to be replaced is too old by now.
func (m *member) laneFailed(err error) {
	refused := false
	switch status.Code(err) { //nolint:exhaustive // all others may pass
	case codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		refused = true
	}
	first, most := laneRetryFirst, laneRetryMost
	if refused {
		first, most = laneAskFirst, laneAskMost
	}
	m.pool.mu.Lock()
	before, known := m.lane.open, m.lane.refused
	pause := min(max(2*m.lane.pause, first), most)
	m.lane = laneRecord{due: m.pool.now().Add(pause), pause: pause, refused: refused}
	m.pool.mu.Unlock()
	if before != nil {
		before.Retire()
	}
	if refused && !known {
		m.pool.logger.Info("A pod offers no lane: each call to it is one of its own", "pod", m.address, "error", err)
	} else {
		m.pool.logger.Debug("Cannot open a lane to a pod", "pod", m.address, "error", err, "again", pause)
	}
}

// laneBroke notes that a lane ended before it was to.
func (m *member) laneBroke(open *lane.Lane, err error) {
	m.pool.mu.Lock()
	if m.lane.open == open {
		m.lane.due = m.pool.now().Add(laneRetryFirst)
	}
	m.pool.mu.Unlock()
	m.pool.logger.Debug("The lane to a pod ended", "pod", m.address, "error", err)
}
