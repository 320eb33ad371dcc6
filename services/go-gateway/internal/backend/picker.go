package backend

import (
	"context"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// balancerName is this balancer's name in grpc-go's process-wide registry. The balancer keeps nothing of its own: all
// records are in the pool, which arrives with the resolver's addresses.
const balancerName = "polyglot_least_outstanding"

func init() { //nolint:gochecknoinits // grpc-go finds balancers only in its registry, which must be filled before the first channel
	balancer.Register(leastOutstanding{base.NewBalancerBuilder(balancerName, pickerBuilder{}, base.Config{})})
}

// memberKey is the address attribute that holds the *member.
type memberKey struct{}

func memberOf(address resolver.Address) *member {
	m, _ := address.Attributes.Value(memberKey{}).(*member)
	return m
}

// leastOutstanding is grpc-go's base balancer (one connection per address, all kept up) with this package's picker.
type leastOutstanding struct{ balancer.Builder }

func (b leastOutstanding) Build(channel balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	return b.Builder.Build(observedChannel{channel}, options)
}

// observedChannel notes the state of each connection in its member.
type observedChannel struct{ balancer.ClientConn }

func (c observedChannel) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	m, inner := memberOf(addresses[0]), options.StateListener
	options.StateListener = func(state balancer.SubConnState) {
		inner(state)
		m.observe(state.ConnectivityState) // last: who is told of it finds the member in the picker
	}
	return c.ClientConn.NewSubConn(addresses, options) //nolint:staticcheck // the notice is about several addresses; the base balancer passes one
}

type pickerBuilder struct{}

func (pickerBuilder) Build(info base.PickerBuildInfo) balancer.Picker {
	p := &picker{connections: make(map[*member]balancer.SubConn, len(info.ReadySCs))}
	for connection, details := range info.ReadySCs {
		m := memberOf(details.Address)
		p.pool = m.pool
		p.ready = append(p.ready, m)
		p.connections[m] = connection
	}
	if p.pool != nil {
		p.pool.picker.Store(p) // for the lanes, which choose as calls of their own do
	}
	return p
}

// picker chooses among the pods that were connected when it was made.
type picker struct {
	pool        *pool
	ready       []*member
	connections map[*member]balancer.SubConn
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	route := routeIn(info.Ctx)
	ready, err := p.candidates(info.Ctx, route)
	if err != nil {
		return balancer.PickResult{}, err
	}
	if opensLane(info.Ctx) {
		return balancer.PickResult{SubConn: p.connections[ready[0]]}, nil // no call, whose end would say something about the pod
	}
	taken, ok := p.pool.pick(ready, route.excluded)
	if !ok {
		return balancer.PickResult{}, status.Error(codes.Unavailable, "the call's pod failed, and no other is connected")
	}
	route.picked = taken.member
	route.repeated = route.failed
	return balancer.PickResult{
		SubConn: p.connections[taken.member],
		Done: func(end balancer.DoneInfo) {
			route.failed = end.Err != nil
			taken.finish(judge(end))
		},
	}, nil
}

// candidates are the connected members that a call may go to, the one that failed it included.
func (p *picker) candidates(ctx context.Context, route *route) ([]*member, error) {
	if address, pinned := pinnedIn(ctx); pinned {
		pin := p.only(address)
		if len(pin) == 0 {
			return nil, status.Errorf(codes.Unavailable, "the call is for %s, which is not connected", address)
		}
		return pin, nil
	}
	if preferred := p.only(Preferred(ctx)); len(preferred) > 0 && route.excluded == nil {
		return preferred, nil
	}
	if len(p.ready) == 0 {
		return nil, balancer.ErrNoSubConnAvailable
	}
	return p.ready, nil
}

// only is the connected member with this address, or nothing.
func (p *picker) only(address string) []*member {
	for index, m := range p.ready {
		if m.address == address {
			return p.ready[index : index+1]
		}
	}
	return nil
}

// judge reads the end of a call. UNAVAILABLE comes from the transport, the sidecar, or a pod that drains, unless the
// application sent a code of its own with it, such as MODEL_NOT_READY. A call that found its connection gone ends without
// an error and without a byte, and is picked again: it says nothing.
func judge(end balancer.DoneInfo) verdict {
	switch {
	case status.Code(end.Err) == codes.Unavailable && !saidByApplication(end):
		return unreachable
	case end.BytesReceived:
		return answered
	default:
		return nothing
	}
}

func saidByApplication(end balancer.DoneInfo) bool {
	code := end.Trailer.Get(apierr.CodeTrailer)
	return len(code) > 0 && code[0] != apierr.ServerDraining
}
