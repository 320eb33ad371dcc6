package load

import (
	"reflect"
	"testing"
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

func TestPercentileIsTheNearestRank(t *testing.T) {
	for _, c := range []struct {
		name    string
		sorted  []time.Duration
		percent int
		want    int // µs
	}{
		{"of nothing", nil, 50, 0},
		{"of one", microsecondsOf(7), 99, 7},
		{"the lower middle of two", microsecondsOf(1, 2), 50, 1},
		{"the middle of three", microsecondsOf(1, 2, 9), 50, 2},
		{"p50 of 100", upTo(100), 50, 50},
		{"p99 of 100", upTo(100), 99, 99},
		{"p99 of 101", upTo(101), 99, 100},
		{"p99 of 99 is the largest", upTo(99), 99, 99},
		{"p56 of 225 is a whole rank", upTo(225), 56, 126},
		{"p100", upTo(100), 100, 100},
		{"p0 is the smallest", upTo(100), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := percentile(c.sorted, c.percent); got != time.Duration(c.want)*time.Microsecond {
				t.Errorf("got %s, want %dµs", got, c.want)
			}
		})
	}
}

func TestPercentileCoversItsShareAndNoSmallerValueDoes(t *testing.T) {
	for size := 1; size <= 300; size++ {
		sorted := upTo(size)
		for percent := 1; percent <= 100; percent++ {
			covered := int(percentile(sorted, percent) / time.Microsecond) // of 1, 2, …, n µs, value v covers v
			if covered*100 < percent*size || (covered-1)*100 >= percent*size {
				t.Fatalf("p%d of %d values covers %d of them", percent, size, covered)
			}
		}
	}
}

func TestSummarizeCountsAndDivides(t *testing.T) {
	first, second := Failure{Began: time.Unix(1, 0), Error: "first"}, Failure{Began: time.Unix(2, 0), Error: "second"}
	got := summarize(4, microsecondsOf(30, 10, 20), []Failure{second, first}, 2*time.Second, 50*time.Microsecond)
	want := Summary{
		Clients: 4, Requests: 3, Errors: 2, Failures: []Failure{first, second}, Seconds: 2, RequestsPerSecond: 1.5,
		P50Microseconds: 20, P99Microseconds: 30, MaxMicroseconds: 30, OwnCPUMicroseconds: 10,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSummarizeOfNothingIsZero(t *testing.T) {
	if got, want := summarize(1, nil, nil, 0, 0), (Summary{Clients: 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
