// Package load runs calls in a closed loop: each client sends its next request when it has the answer to the last. With a
// rate it runs them in an open loop: each is due at its moment, whatever became of those before, and its latency counts from
// then, also when no client was free to send it.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/target"
)

// The bounds of one run; nobody needs more from one machine's loopback.
const (
	MaxClients  = 256
	MaxRate     = 100_000
	MaxRequests = 1_000_000
	MaxDuration = 5 * time.Minute
	callTimeout = 10 * time.Second
)

// Plan is how much load to make: until the duration has passed, all requests are sent, or the run is cancelled and at least
// so many are sent.
type Plan struct {
	Clients  int
	Requests int
	AtLeast  int
	Duration time.Duration
	Rate     float64 // requests per second of all clients together; 0: a closed loop
	Started  func()  // called when every client is connected; nil: nobody asks
}

// Validate reports a plan outside the bounds.
func (p Plan) Validate() error {
	switch {
	case p.Clients < 1 || p.Clients > MaxClients:
		return fmt.Errorf("clients %d is not within 1 and %d", p.Clients, MaxClients)
	case p.Requests < 1 || p.Requests > MaxRequests:
		return fmt.Errorf("requests %d is not within 1 and %d", p.Requests, MaxRequests)
	case p.AtLeast < 0 || p.AtLeast > p.Requests:
		return fmt.Errorf("at least %d is not within 0 and the %d requests", p.AtLeast, p.Requests)
	case p.Duration <= 0 || p.Duration > MaxDuration:
		return fmt.Errorf("duration %s is not within 0s and %s", p.Duration, MaxDuration)
	case p.Rate < 0 || p.Rate > MaxRate:
		return fmt.Errorf("rate %g is not within 0 and %d", p.Rate, MaxRate)
	}
	return nil
}

// Open makes the call of one client, and what releases its connection.
type Open func() (target.Call, func() error, error)

// Run opens one connection per client, makes one unmeasured call on each, then measures.
//
// A cancelled run sends no more and waits for the answers under way. Failed requests are counted, not fatal; an error means
// that nothing could be measured.
func Run(ctx context.Context, plan Plan, open Open) (Summary, error) {
	if err := plan.Validate(); err != nil {
		return Summary{}, err
	}
	calls, release, err := connect(ctx, plan.Clients, open)
	if err != nil {
		return Summary{}, errors.Join(err, release())
	}
	if plan.Started != nil {
		plan.Started()
	}
	summary, err := measure(ctx, plan, calls)
	return summary, errors.Join(err, release())
}

// connect opens the clients' connections by one call each; release closes those that were opened, also after an error.
func connect(ctx context.Context, clients int, open Open) (calls []target.Call, release func() error, err error) {
	var releases []func() error
	release = func() error {
		failures := make([]error, len(releases))
		for i, one := range releases {
			failures[i] = one()
		}
		return errors.Join(failures...)
	}
	for i := range clients {
		call, releaseOne, err := open()
		if err != nil {
			return nil, release, err
		}
		releases = append(releases, releaseOne)
		if err := within(ctx, call); err != nil {
			return nil, release, fmt.Errorf("first call of client %d: %w", i+1, err)
		}
		calls = append(calls, call)
	}
	return calls, release, nil
}

func measure(ctx context.Context, plan Plan, calls []target.Call) (Summary, error) {
	clients := make([]client, len(calls))
	var sent atomic.Int64
	cpuBefore, err := ownCPU()
	if err != nil {
		return Summary{}, err
	}
	start := time.Now()
	end := start.Add(plan.Duration)
	next := func() (due time.Time, more bool) {
		number := sent.Add(1)
		due = time.Now()
		if plan.Rate > 0 {
			due = start.Add(time.Duration(float64(number-1) / plan.Rate * float64(time.Second)))
		}
		return due, number <= int64(plan.Requests) && due.Before(end) && (ctx.Err() == nil || number <= int64(plan.AtLeast))
	}
	var wait sync.WaitGroup
	for i, call := range calls {
		wait.Go(func() { clients[i].loop(ctx, call, next) })
	}
	wait.Wait()
	elapsed := time.Since(start)
	cpuAfter, err := ownCPU()
	if err != nil {
		return Summary{}, err
	}
	var latencies []time.Duration
	var failures []Failure
	for _, c := range clients {
		latencies = append(latencies, c.latencies...)
		failures = append(failures, c.failures...)
	}
	return summarize(plan.Clients, latencies, failures, elapsed, cpuAfter-cpuBefore), nil
}

// client is what one client saw; only its own goroutine writes it.
type client struct {
	latencies []time.Duration
	failures  []Failure
}

func (c *client) loop(ctx context.Context, call target.Call, next func() (due time.Time, more bool)) {
	for due, more := next(); more && wait(ctx, due); due, more = next() {
		if err := within(context.WithoutCancel(ctx), call); err != nil {
			c.failures = append(c.failures, Failure{Began: due, Seconds: time.Since(due).Seconds(), Error: err.Error()})
			continue
		}
		c.latencies = append(c.latencies, time.Since(due))
	}
}

// wait returns when a request is due, at once where it already is; false when the run is cancelled before.
func wait(ctx context.Context, due time.Time) bool {
	ahead := time.Until(due)
	if ahead <= 0 {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(ahead):
		return true
	}
}

func within(ctx context.Context, call target.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("read own CPU time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
