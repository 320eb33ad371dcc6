package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
)

// scheme is the target scheme of this resolver, known only to the gateway's own channel.
const scheme = "polyglot"

// lookupTimeout bounds one DNS question, so that a lost packet doesn't hold up the next one.
const lookupTimeout = time.Second

// leastPause is between two DNS questions, however many calls wait for a pod.
const leastPause = 100 * time.Millisecond

// Lookup is net.Resolver's LookupNetIP: network is "ip", "ip4" or "ip6".
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// resolverBuilder makes the resolver that polls DNS. grpc-go's own asks again only when a connection fails, and then not
// within 30 s (https://github.com/grpc/grpc-go/blob/master/internal/resolver/dns/dns_resolver.go), so it never
// finds a pod that was added.
type resolverBuilder struct {
	options Options
	pool    *pool
}

func (b *resolverBuilder) Scheme() string { return scheme }

func (b *resolverBuilder) Build(_ resolver.Target, channel resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if len(b.options.Sockets) > 0 {
		return listSockets(channel, b.pool, b.options.Sockets)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &dnsResolver{
		channel:  channel,
		pool:     b.pool,
		lookup:   b.options.Lookup,
		ports:    b.options.Ports,
		observer: b.options.Observer,
		logger:   b.options.Logger,
		stop:     stop,
	}
	if r.lookup == nil {
		r.lookup = net.DefaultResolver.LookupNetIP
	}
	r.network, r.host = question(b.options.Host)
	r.done.Go(func() { r.poll(ctx, b.options.ResolveInterval) })
	return r, nil
}

// question says what to ask for host. A name with dots is asked for as it is, without the search list of resolv.conf,
// which in a pod would turn one question into five. localhost means the IPv4 address, which is where servers listen.
func question(host string) (network, name string) {
	switch {
	case host == "localhost":
		return "ip4", host
	case net.ParseIP(host) == nil && strings.Contains(host, ".") && !strings.HasSuffix(host, "."):
		return "ip", host + "."
	default:
		return "ip", host
	}
}

type dnsResolver struct {
	channel       resolver.ClientConn
	pool          *pool
	lookup        Lookup
	network, host string
	ports         []int
	observer      Observer
	logger        *slog.Logger

	known   []string // the members of the last good answer
	told    bool     // whether the channel has had an answer at all
	failing bool     // whether the last question failed; it is logged once
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// ResolveNow does nothing: the next poll is at most one interval away. Calls that have no pod to go to ask by pool.want.
func (r *dnsResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *dnsResolver) Close() {
	r.stop()
	r.done.Wait()
}

func (r *dnsResolver) poll(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		r.resolve(ctx)
		resolved := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			continue
		case <-r.pool.wanted:
		}
		select { // a burst of calls must not become a burst of DNS questions
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-time.After(leastPause - time.Since(resolved)):
		}
	}
}

// resolve asks once. A failed question leaves the last good answer in place; "no such name" is an answer: no pods.
func (r *dnsResolver) resolve(ctx context.Context) {
	addresses, err := r.ask(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		r.failed(err)
	default:
		r.succeeded(addresses)
	}
}

func (r *dnsResolver) ask(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := r.lookup(ctx, r.network, r.host)
	if failure, ok := errors.AsType[*net.DNSError](err); ok && failure.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	addresses := make([]string, 0, len(found)*len(r.ports))
	for _, ip := range found {
		for _, port := range r.ports {
			addresses = append(addresses, net.JoinHostPort(ip.Unmap().String(), strconv.Itoa(port)))
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

func (r *dnsResolver) failed(err error) {
	r.observer.ResolveFailed()
	if !r.failing {
		r.failing = true
		r.logger.Warn("Cannot resolve the backend; keeping the last answer", "host", r.host, "error", err, "pods", r.known)
	}
	if !r.told {
		r.channel.ReportError(fmt.Errorf("resolve %s: %w", r.host, err))
	}
}

func (r *dnsResolver) succeeded(addresses []string) {
	r.observer.Resolved(len(addresses))
	if r.failing {
		r.failing = false
		r.logger.Info("Resolved the backend again", "host", r.host)
	}
	if r.told && slices.Equal(addresses, r.known) {
		return
	}
	r.logger.Info("Found other pods", "host", r.host, "pods", addresses, "before", r.known)
	r.known, r.told = addresses, true
	r.tell(addresses)
}

// tell gives the channel the pods. Every call carries the Service's host and the member's port as `:authority`, whichever pod
// it goes to: the mesh finds the Service, and so mutual TLS, by it.
func (r *dnsResolver) tell(addresses []string) {
	host := strings.TrimSuffix(r.host, ".")
	state := stateOf(r.pool.replace(addresses), func(address string) string {
		_, port, _ := net.SplitHostPort(address) // ask has joined it
		return net.JoinHostPort(host, port)
	})
	// The balancer refuses an empty answer only after it has dropped the old pods; the text below is what callers then read.
	if err := r.channel.UpdateState(state); err != nil && len(addresses) > 0 {
		r.logger.Error("The channel refused an answer of DNS", "pods", addresses, "error", err)
	}
	if len(addresses) == 0 {
		r.channel.ReportError(fmt.Errorf("%s has no ready pods", host))
	}
}

// stateOf is what a channel is told: each address carries its authority, and the member that keeps its record across pickers.
func stateOf(members []*member, authority func(address string) string) resolver.State {
	state := resolver.State{Addresses: make([]resolver.Address, len(members))}
	for i, m := range members {
		state.Addresses[i] = resolver.Address{
			Addr: m.address, ServerName: authority(m.address), Attributes: attributes.New(memberKey{}, m),
		}
	}
	return state
}

// socketList is the resolver for Unix sockets, which are known from the start and don't change.
type socketList struct{}

func listSockets(channel resolver.ClientConn, pods *pool, paths []string) (resolver.Resolver, error) {
	addresses := make([]string, len(paths))
	for i, path := range paths {
		addresses[i] = "unix:" + path
	}
	slices.Sort(addresses)
	return socketList{}, channel.UpdateState(stateOf(pods.replace(addresses), func(string) string { return "localhost" }))
}

func (socketList) ResolveNow(resolver.ResolveNowOptions) {}

func (socketList) Close() {}
