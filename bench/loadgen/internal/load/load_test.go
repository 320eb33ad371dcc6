package load_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/load"
	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/target"
)

// connections counts what a run opens, releases and calls.
type connections struct {
	opened, released, calls atomic.Int64
	answer                  func(call int64) error
}

func (c *connections) Open() (target.Call, func() error, error) {
	c.opened.Add(1)
	call := func(context.Context) error { return c.answer(c.calls.Add(1)) }
	release := func() error { c.released.Add(1); return nil }
	return call, release, nil
}

func succeed(int64) error { return nil }

func TestRunSendsExactlyTheRequestsOfThePlan(t *testing.T) {
	for _, clients := range []int{1, 32} {
		c := &connections{answer: succeed}
		summary, err := load.Run(t.Context(), load.Plan{Clients: clients, Requests: 1000, Duration: time.Minute}, c.Open)
		if err != nil {
			t.Fatal(err)
		}
		if summary.Requests != 1000 || summary.Errors != 0 || summary.Clients != clients {
			t.Errorf("%d clients: %+v", clients, summary)
		}
		if got, want := c.calls.Load(), int64(1000+clients); got != want {
			t.Errorf("%d clients made %d calls, want %d with one unmeasured call each", clients, got, want)
		}
		if c.opened.Load() != int64(clients) || c.released.Load() != int64(clients) {
			t.Errorf("%d clients opened %d connections and released %d", clients, c.opened.Load(), c.released.Load())
		}
	}
}

func TestRunEndsWhenTheTimeIsUp(t *testing.T) {
	c := &connections{answer: succeed}
	const duration = 50 * time.Millisecond
	summary, err := load.Run(t.Context(), load.Plan{Clients: 2, Requests: load.MaxRequests, Duration: duration}, c.Open)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Seconds < duration.Seconds() && summary.Requests < load.MaxRequests {
		t.Errorf("ended early: %+v", summary)
	}
}

func TestRunAtARateSendsEachRequestWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &connections{answer: func(int64) error { time.Sleep(10 * time.Millisecond); return nil }}
		plan := load.Plan{Clients: 4, Requests: load.MaxRequests, Duration: time.Second, Rate: 100}
		summary, err := load.Run(t.Context(), plan, c.Open)
		if err != nil {
			t.Fatal(err)
		}
		if summary.Requests != 100 || summary.MaxMicroseconds != 10_000 {
			t.Errorf("got %+v, want 100 requests of 10 ms", summary)
		}
	})
}

func TestRunAtARateCountsTheTimeThatARequestWaitsForAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &connections{answer: func(int64) error { time.Sleep(20 * time.Millisecond); return nil }}
		plan := load.Plan{Clients: 1, Requests: load.MaxRequests, Duration: time.Second, Rate: 100}
		summary, err := load.Run(t.Context(), plan, c.Open)
		if err != nil {
			t.Fatal(err)
		}
		// One client answers 50 a second of the 100 that are due: the last of them is a second late.
		if summary.Requests != 100 || summary.Seconds != 2 || summary.MaxMicroseconds != 1_010_000 {
			t.Errorf("got %+v, want 100 requests in 2 s, the last after 1.01 s", summary)
		}
	})
}

func TestRunAtARateThatIsCancelledWaitsForNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		c := &connections{answer: succeed}
		plan := load.Plan{Clients: 1, Requests: load.MaxRequests, Duration: time.Minute, Rate: 1}
		summary, err := load.Run(ctx, plan, c.Open)
		if err != nil {
			t.Fatal(err)
		}
		if summary.Requests != 1 || summary.Seconds > 1 {
			t.Errorf("got %+v, want the first request alone", summary)
		}
	})
}

func TestRunCountsFailuresAndKeepsTheirLatencyOut(t *testing.T) {
	c := &connections{answer: func(call int64) error {
		if call%10 == 0 {
			return errors.New("overloaded")
		}
		return nil
	}}
	summary, err := load.Run(t.Context(), load.Plan{Clients: 1, Requests: 100, Duration: time.Minute}, c.Open)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Requests != 90 || summary.Errors != 10 {
		t.Errorf("got %+v, want 90 answers and 10 errors", summary)
	}
	for _, failure := range summary.Failures {
		if failure.Error != "overloaded" || failure.Began.IsZero() || failure.Seconds < 0 {
			t.Errorf("a failure is described as %+v", failure)
		}
	}
}

func TestRunMeasuresNothingWhenTheFirstCallFails(t *testing.T) {
	c := &connections{answer: func(call int64) error {
		if call == 2 {
			return errors.New("connection refused")
		}
		return nil
	}}
	_, err := load.Run(t.Context(), load.Plan{Clients: 3, Requests: 100, Duration: time.Minute}, c.Open)
	if err == nil || !strings.Contains(err.Error(), "first call of client 2: connection refused") {
		t.Errorf("got %v", err)
	}
	if c.calls.Load() != 2 || c.released.Load() != 2 {
		t.Errorf("made %d calls and released %d connections, want 2 and 2", c.calls.Load(), c.released.Load())
	}
}

func TestRunStopsWhenItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &connections{answer: func(call int64) error {
		if call == 50 {
			cancel()
		}
		return nil
	}}
	summary, err := load.Run(ctx, load.Plan{Clients: 1, Requests: 1000, Duration: time.Minute}, c.Open)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Requests != 49 {
		t.Errorf("measured %d requests after a cancellation at the 49th", summary.Requests)
	}
}

func TestRunSendsAtLeastThePlansRequestsThoughItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &connections{answer: func(call int64) error {
		if call == 50 {
			cancel()
		}
		return nil
	}}
	summary, err := load.Run(ctx, load.Plan{Clients: 4, Requests: 1000, AtLeast: 200, Duration: time.Minute}, c.Open)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Requests != 200 {
		t.Errorf("measured %d requests of at least 200", summary.Requests)
	}
}

func TestRunFinishesTheCallsUnderWayWhenItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	open := func() (target.Call, func() error, error) {
		call := func(of context.Context) error {
			if calls.Add(1) > 1 { // the first is not measured
				cancel()
			}
			return of.Err()
		}
		return call, func() error { return nil }, nil
	}
	summary, err := load.Run(ctx, load.Plan{Clients: 1, Requests: 10, Duration: time.Minute}, open)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Requests != 1 || summary.Errors != 0 {
		t.Errorf("got %+v, want the one call answered", summary)
	}
}

func TestRunTellsWhenEveryClientIsConnected(t *testing.T) {
	c := &connections{answer: succeed}
	var calls int64
	plan := load.Plan{Clients: 3, Requests: 10, Duration: time.Minute, Started: func() { calls = c.calls.Load() }}
	if _, err := load.Run(t.Context(), plan, c.Open); err != nil {
		t.Fatal(err)
	}
	if calls != 3 {
		t.Errorf("told after %d calls, want the first of each client", calls)
	}
}

func TestRunRefusesAPlanOutsideTheBounds(t *testing.T) {
	for problem, plan := range map[string]load.Plan{
		"clients 0":        {Clients: 0, Requests: 1, Duration: time.Second},
		"clients 257":      {Clients: load.MaxClients + 1, Requests: 1, Duration: time.Second},
		"requests 0":       {Clients: 1, Requests: 0, Duration: time.Second},
		"requests 1000001": {Clients: 1, Requests: load.MaxRequests + 1, Duration: time.Second},
		"at least 11":      {Clients: 1, Requests: 10, AtLeast: 11, Duration: time.Second},
		"duration 0s":      {Clients: 1, Requests: 1},
		"duration 5m0.":    {Clients: 1, Requests: 1, Duration: load.MaxDuration + time.Millisecond},
	} {
		c := &connections{answer: succeed}
		_, err := load.Run(t.Context(), plan, c.Open)
		if err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("got %v, want an error that says %q", err, problem)
		}
		if c.opened.Load() != 0 {
			t.Errorf("%s: opened a connection", problem)
		}
	}
}
