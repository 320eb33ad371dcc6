package load

import (
	"errors"
	"testing"
	"testing/quick"
	"time"
)

func microsecondsOf(values ...int) []time.Duration {
	durations := make([]time.Duration, len(values))
	for i, value := range values {
		durations[i] = time.Duration(value) * time.Microsecond
	}
	return durations
}

func upTo(n int) []time.Duration {
	values := make([]int, n)
	for i := range values {
		values[i] = i + 1
	}
	return microsecondsOf(values...)
}

func TestQuantileIsTheNearestRank(t *testing.T) {
	for _, c := range []struct {
		name   string
		sorted []time.Duration
		q      float64
		want   int // µs
	}{
		{"of nothing", nil, 0.5, 0},
		{"of one", microsecondsOf(7), 0.99, 7},
		{"the lower middle of two", microsecondsOf(1, 2), 0.5, 1},
		{"the middle of three", microsecondsOf(1, 2, 9), 0.5, 2},
		{"p50 of 100", upTo(100), 0.50, 50},
		{"p99 of 100", upTo(100), 0.99, 99},
		{"p99 of 101", upTo(101), 0.99, 100},
		{"p99 of 99 is the largest", upTo(99), 0.99, 99},
		{"p100", upTo(100), 1, 100},
		{"p0 is the smallest", upTo(100), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := quantile(c.sorted, c.q); got != time.Duration(c.want)*time.Microsecond {
				t.Errorf("got %s, want %dµs", got, c.want)
			}
		})
	}
}

func TestQuantileCoversItsShareAndNoSmallerValueDoes(t *testing.T) {
	covers := func(sizes uint8, percent uint8) bool {
		sorted, q := upTo(int(sizes)+1), float64(percent%101)/100
		value := quantile(sorted, q)
		share := float64(value/time.Microsecond) / float64(len(sorted)) // upTo(n)[i] is i+1: value = how many don't exceed it
		below := float64(value/time.Microsecond-1) / float64(len(sorted))
		return share >= q-1e-9 && (value == sorted[0] || below < q)
	}
	if err := quick.Check(covers, nil); err != nil {
		t.Error(err)
	}
}

func TestSummarizeCountsAndDivides(t *testing.T) {
	got := summarize(4, microsecondsOf(30, 10, 20), []error{errors.New("first"), errors.New("second")},
		2*time.Second, 50*time.Microsecond)
	want := Summary{
		Clients: 4, Requests: 3, Errors: 2, FirstError: "first", Seconds: 2, RequestsPerSecond: 1.5,
		P50Microseconds: 20, P99Microseconds: 30, MaxMicroseconds: 30, OwnCPUMicroseconds: 10,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSummarizeOfNothingIsZero(t *testing.T) {
	if got, want := summarize(1, nil, nil, 0, 0), (Summary{Clients: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
