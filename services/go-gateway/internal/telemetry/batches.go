package telemetry

import "github.com/prometheus/client_golang/prometheus"

var (
	// sizeBuckets are rows, to the largest batch that settings allow.
	sizeBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
	// waitBuckets are seconds, from a member that is free at once to a caller's patience.
	waitBuckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5}
)

// batchVectors are the metrics of batching, for all models.
type batchVectors struct {
	sent, dropped *prometheus.CounterVec
	size, wait    *prometheus.HistogramVec
	rows, bytes   *prometheus.GaugeVec
}

func newBatchVectors() batchVectors {
	model := []string{"model"}
	return batchVectors{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "batches_total",
			Help: "Batches sent, those of one request included, by why they were sent as they were: idle (a pod was free), full (batching.maxSize or " +
				"the limit on bytes), linger (a pod had waited a little for more) or deadline (a larger batch would have been too late).",
		}, []string{"model", "reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "batch_dropped_total",
			Help: "Requests for a batched model that no pod got, by reason: full (rows or bytes of the queue at their bound), overload (the estimated wait " +
				"exceeds the deadline), expired (the deadline passed, or would have before the answer) or cancelled (the caller went away).",
		}, []string{"model", "reason"}),
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "batch_size_rows", Help: "Rows of a batch.", Buckets: sizeBuckets,
		}, model),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "batch_queue_seconds", Help: "Time that a request waited for its batch to be sent.", Buckets: waitBuckets,
		}, model),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "batch_queued_rows", Help: "Rows that wait for a batch.",
		}, model),
		bytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "batch_queued_bytes", Help: "Bytes of the tensors that wait for a batch.",
		}, model),
	}
}

func (v batchVectors) all() []prometheus.Collector {
	return []prometheus.Collector{v.sent, v.dropped, v.size, v.wait, v.rows, v.bytes}
}

// Batches counts the batches for one model.
type Batches struct {
	sent, dropped *prometheus.CounterVec
	size, wait    prometheus.Observer
	rows, bytes   prometheus.Gauge
}

// Batches returns the counters of a model, which must be one of the settings'.
func (m *Metrics) Batches(model string) *Batches {
	label := prometheus.Labels{"model": model}
	return &Batches{
		sent: m.batches.sent.MustCurryWith(label), dropped: m.batches.dropped.MustCurryWith(label),
		size: m.batches.size.With(label), wait: m.batches.wait.With(label),
		rows: m.batches.rows.With(label), bytes: m.batches.bytes.With(label),
	}
}

// Sent counts a batch.
func (b *Batches) Sent(reason string, rows int) {
	b.sent.WithLabelValues(reason).Inc()
	b.size.Observe(float64(rows))
}

// Waited observes the time of one request in the queue.
func (b *Batches) Waited(seconds float64) { b.wait.Observe(seconds) }

// Queued changes what waits.
func (b *Batches) Queued(rows, bytes int) {
	b.rows.Add(float64(rows))
	b.bytes.Add(float64(bytes))
}

// Dropped counts a request that no pod got.
func (b *Batches) Dropped(reason string) { b.dropped.WithLabelValues(reason).Inc() }
