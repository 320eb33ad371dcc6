package backend

import "context"

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

func pinnedIn(ctx context.Context) (address string, pinned bool) {
	address, pinned = ctx.Value(pinKey{}).(string)
	return address, pinned
}
