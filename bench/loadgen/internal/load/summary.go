package load

import (
	"slices"
	"time"
)

// Summary is the outcome of one run; latencies are of successful requests only.
type Summary struct {
	Clients           int     `json:"clients"`
	Requests          int     `json:"requests"`
	Errors            int     `json:"errors"`
	Seconds           float64 `json:"seconds"`
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	P50Microseconds   float64 `json:"p50Microseconds"`
	P99Microseconds   float64 `json:"p99Microseconds"`
	MaxMicroseconds   float64 `json:"maxMicroseconds"`
	// OwnCPUMicroseconds is what the generator itself took per request: it shares the machine with what it measures.
	OwnCPUMicroseconds float64 `json:"ownCpuMicroseconds"`
	// Failures are the first failed requests, at most MaxFailures.
	Failures []Failure `json:"failures,omitempty"`
}

// MaxFailures is how many failed requests a summary describes.
const MaxFailures = 100

// Failure is one failed request.
type Failure struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error"`
}

// summarize counts and ranks. Every latency is kept, so the percentiles are exact.
func summarize(clients int, latencies []time.Duration, failures []Failure, elapsed, ownCPU time.Duration) Summary {
	slices.Sort(latencies)
	slices.SortFunc(failures, func(a, b Failure) int { return a.Began.Compare(b.Began) })
	summary := Summary{
		Clients:         clients,
		Requests:        len(latencies),
		Errors:          len(failures),
		Seconds:         elapsed.Seconds(),
		P50Microseconds: microseconds(percentile(latencies, 50)),
		P99Microseconds: microseconds(percentile(latencies, 99)),
		MaxMicroseconds: microseconds(percentile(latencies, 100)),
		Failures:        failures[:min(len(failures), MaxFailures)],
	}
	if elapsed > 0 {
		summary.RequestsPerSecond = float64(len(latencies)) / elapsed.Seconds()
	}
	if made := len(latencies) + len(failures); made > 0 {
		summary.OwnCPUMicroseconds = microseconds(ownCPU) / float64(made)
	}
	return summary
}

// percentile is the nearest rank: the smallest latency that at least percent of all do not exceed. Zero of none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (percent*len(sorted) + 99) / 100 // whole numbers: 0.56 * 225 is more than 126
	return sorted[max(rank, 1)-1]
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
