package backend

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// route is where one call went and may not go; the retry interceptor and the picker share it through the call's context.
type route struct {
	excluded *member
	picked   *member
	failed   bool // the last attempt ended in an error
	repeated bool // the current attempt follows one that failed
}

type routeKey struct{}

func withRoute(ctx context.Context) (context.Context, *route) {
	r := new(route)
	return context.WithValue(ctx, routeKey{}, r), r
}

// routeIn returns a route that nobody else reads for a call without one: a stream, which is never retried.
func routeIn(ctx context.Context) *route {
	if r, ok := ctx.Value(routeKey{}).(*route); ok {
		return r
	}
	return new(route)
}

type pinKey struct{}

// Pin makes the calls with the returned context go to the member with this address, one of Members, or fail UNAVAILABLE. A
// pinned call is never sent to another member.
func Pin(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, pinKey{}, address)
}

type preferKey struct{}

// Prefer makes the calls with the returned context go to the member with this address while it is connected, and otherwise, or
// where the call certainly did not run there, to the one that any call would go to.
func Prefer(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, preferKey{}, address)
}

// Preferred is the address that Prefer named, or "".
func Preferred(ctx context.Context) string {
	address, _ := ctx.Value(preferKey{}).(string)
	return address
}

type laneKey struct{}

// toOpenLane makes a stream go to the member with this address, and counts it neither as a call nor as part of any trace: proxies on
// the way would begin one of their own.
func toOpenLane(ctx context.Context, address string) context.Context {
	var (
		traceID trace.TraceID
		spanID  trace.SpanID
	)
	binary.NativeEndian.PutUint64(traceID[:], rand.Uint64()|1) //nolint:gosec // not a secret; zero would be none
	binary.NativeEndian.PutUint64(spanID[:], rand.Uint64()|1)  //nolint:gosec // as above
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
	return context.WithValue(trace.ContextWithSpanContext(Pin(ctx, address), unsampled), laneKey{}, true)
}

func opensLane(ctx context.Context) bool {
	return ctx.Value(laneKey{}) != nil
}

func pinnedIn(ctx context.Context) (address string, pinned bool) {
	address, pinned = ctx.Value(pinKey{}).(string)
	return address, pinned
}
