package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Streams counts the server-sent event streams of generate_stream.
type Streams struct {
	open          prometheus.Gauge
	firstResponse prometheus.Histogram
	events        *prometheus.CounterVec
}

func newStreams(registry *prometheus.Registry) *Streams {
	s := &Streams{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "streams_open", Help: "Streams of generate_stream that are being sent.",
		}),
		firstResponse: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "stream_first_response_seconds",
			Help:    "Time from a call's arrival at generate or generate_stream to the model's first response.",
			Buckets: latencyBuckets,
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "stream_events_total", Help: "Events sent by generate_stream, by kind response, error or heartbeat.",
		}, []string{"kind"}),
	}
	registry.MustRegister(s.open, s.firstResponse, s.events)
	return s
}

// Streams returns the counters of streams.
func (m *Metrics) Streams() *Streams { return m.streams }

// Open changes the number of streams being sent.
func (s *Streams) Open(delta int) { s.open.Add(float64(delta)) }

// FirstResponse counts a model's first response.
func (s *Streams) FirstResponse(seconds float64) { s.firstResponse.Observe(seconds) }

// Event counts an event.
func (s *Streams) Event(kind string) { s.events.WithLabelValues(kind).Inc() }
