package load

import (
	"math"
	"slices"
	"time"
)

// Summary is the outcome of one run; latencies are of successful requests only.
type Summary struct {
	Clients           int     `json:"clients"`
	Requests          int     `json:"requests"`
	Errors            int     `json:"errors"`
	FirstError        string  `json:"firstError,omitempty"`
	Seconds           float64 `json:"seconds"`
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	P50Microseconds   float64 `json:"p50Microseconds"`
	P99Microseconds   float64 `json:"p99Microseconds"`
	MaxMicroseconds   float64 `json:"maxMicroseconds"`
	// OwnCPUMicroseconds is what the generator itself took per request: it shares the machine with what it measures.
	OwnCPUMicroseconds float64 `json:"ownCpuMicroseconds"`
}

// summarize counts and ranks. Every latency is kept, so the quantiles are exact.
func summarize(clients int, latencies []time.Duration, failures []error, elapsed, ownCPU time.Duration) Summary {
	slices.Sort(latencies)
	summary := Summary{
		Clients:         clients,
		Requests:        len(latencies),
		Errors:          len(failures),
		Seconds:         elapsed.Seconds(),
		P50Microseconds: microseconds(quantile(latencies, 0.50)),
		P99Microseconds: microseconds(quantile(latencies, 0.99)),
		MaxMicroseconds: microseconds(quantile(latencies, 1)),
	}
	if len(failures) > 0 {
		summary.FirstError = failures[0].Error()
	}
	if elapsed > 0 {
		summary.RequestsPerSecond = float64(len(latencies)) / elapsed.Seconds()
	}
	if made := len(latencies) + len(failures); made > 0 {
		summary.OwnCPUMicroseconds = microseconds(ownCPU) / float64(made)
	}
	return summary
}

// quantile is the nearest rank: the smallest latency that at least the fraction q of all do not exceed. Zero of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
