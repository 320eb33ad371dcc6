package batch

import "time"

const (
	// memory is the weight that an observation keeps with each new one: about 20 count.
	memory = 0.95
	// An estimate is believed until freshBatches times the mean time, and at least freshTime, have passed without a new one.
	freshBatches = 4
	freshTime    = time.Second
)

// estimate is how long a batch of so many rows takes: seconds = slope·rows + base, fitted by least squares to the times of
// the last batches, older ones counting exponentially less. (BentoML fits the same line to its last 50 batches:
// https://github.com/bentoml/BentoML/blob/main/src/bentoml/_internal/marshal/dispatcher.py)
type estimate struct {
	weight, rows, seconds, rowsSquared, product float64 // weighted sums
	latest                                      time.Time
}

func (e *estimate) observe(rows int, took time.Duration, now time.Time) {
	n, t := float64(rows), took.Seconds()
	e.weight = memory*e.weight + 1
	e.rows = memory*e.rows + n
	e.seconds = memory*e.seconds + t
	e.rowsSquared = memory*e.rowsSquared + n*n
	e.product = memory*e.product + n*t
	e.latest = now
}

// mean is the weighted mean of the times, 0 before the first.
func (e *estimate) mean() time.Duration {
	if e.weight == 0 {
		return 0
	}
	return seconds(e.seconds / e.weight)
}

// of is the time that a batch of so many rows should take; false where that isn't known, or not any more.
func (e *estimate) of(rows int, now time.Time) (time.Duration, bool) {
	if e.weight == 0 || now.Sub(e.latest) > max(freshBatches*e.mean(), freshTime) {
		return 0, false
	}
	slope, base := e.line()
	return seconds(slope*float64(rows) + base), true
}

// line is the fit. Where it would say that more rows take less time, or that no rows take less than none, noise says so: then time
// doesn't depend on rows, or is proportional to them.
func (e *estimate) line() (slope, base float64) {
	const leastSpread = 1e-6 // of rows, relative: all batches were of one size
	meanRows, meanSeconds := e.rows/e.weight, e.seconds/e.weight
	spread := e.rowsSquared/e.weight - meanRows*meanRows
	if spread <= leastSpread*meanRows*meanRows {
		return 0, meanSeconds
	}
	slope = (e.product/e.weight - meanRows*meanSeconds) / spread
	base = meanSeconds - slope*meanRows
	switch {
	case slope < 0:
		return 0, meanSeconds
	case base < 0:
		return meanSeconds / meanRows, 0
	default:
		return slope, base
	}
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }
