package telemetry

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/connectivity"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
)

const namespace = "polyglot_gateway"

// latencyBuckets are seconds, from a cached digit to the default deadline.
var latencyBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// Metrics are all metrics of one gateway. docs/reference/metrics.md lists them, from the help texts here.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	accepted *prometheus.CounterVec
	lookups  *prometheus.CounterVec
	retries  *prometheus.CounterVec
	held     *prometheus.CounterVec
	sent     map[string]prometheus.Counter // by way; looked up for every call
	streams  *Streams
	batches  batchVectors
}

// NewMetrics registers the metrics in a registry of their own, with those of the Go runtime and the process.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total",
			Help: "Answered calls. route and method are the REST route template and the HTTP method, or the gRPC service and RPC; " +
				"status is the HTTP or gRPC status; code is the error code, or OK.",
		}, []string{"protocol", "route", "method", "status", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds",
			Help:    "Time from a call's arrival to its answer.",
			Buckets: latencyBuckets,
		}, []string{"protocol", "route", "method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight", Help: "Calls being served, by protocol rest or grpc.",
		}, []string{"protocol"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "connections_accepted_total", Help: "Connections that callers have opened, by protocol rest or grpc.",
		}, []string{"protocol"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "resolver_lookups_total", Help: "DNS lookups of the backend's name, by result ok or error.",
		}, []string{"result"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "retries_total", Help: "Calls sent a second time, by why they certainly had not run: unprocessed, not_connected or draining.",
		}, []string{"reason"}),
		batches: newBatchVectors(),
	}
	m.held = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "held_calls_total", Help: "Calls that waited because no pod was connected, by result connected or gave_up.",
	}, []string{"result"})
	ways := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "infer_calls_total",
		Help: "Calls of ModelInfer sent to pods, by way: lane (a message of the stream that is open to the pod), or a call of its own, because it is sampled " +
			"(proxies read its trace from headers), has other metadata than x-request-id, is large (more than 32 KiB), or the pod's lane is not_open or full.",
	}, []string{"way"})
	m.sent = make(map[string]prometheus.Counter, len(backend.Ways))
	for _, way := range backend.Ways {
		m.sent[way] = ways.WithLabelValues(way)
	}
	m.registry.MustRegister(m.held, ways)
	m.streams = newStreams(m.registry)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, labelled with the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.batches.all()...)
	m.registry.MustRegister(m.requests, m.duration, m.inFlight, m.accepted, m.lookups, m.retries, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Resolved counts a DNS lookup that was answered; how many pods it found shows in backend_state.
func (m *Metrics) Resolved(int) { m.lookups.WithLabelValues("ok").Inc() }

// ResolveFailed counts a DNS lookup that failed.
func (m *Metrics) ResolveFailed() { m.lookups.WithLabelValues("error").Inc() }

// Retried counts a call that was sent a second time.
func (m *Metrics) Retried(reason string) { m.retries.WithLabelValues(reason).Inc() }

// Held counts a call that waited for a pod.
func (m *Metrics) Held(connected bool) {
	result := "gave_up"
	if connected {
		result = "connected"
	}
	m.held.WithLabelValues(result).Inc()
}

// Sent counts a call of ModelInfer.
func (m *Metrics) Sent(way string) { m.sent[way].Inc() }

// Calls counts the calls that arrive by one protocol.
type Calls struct {
	requests *prometheus.CounterVec
	duration prometheus.ObserverVec
	inFlight prometheus.Gauge
	accepted prometheus.Counter

	mu       sync.RWMutex
	observed map[outcome]observed // because looking metrics up by their labels takes longer than changing them
}

// outcome is what the metrics of a call are labelled with.
type outcome struct {
	route, method string
	status        int
	code          string
}

// observed are the metrics of calls with one outcome.
type observed struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

// Calls returns the counters of a protocol, "rest" or "grpc".
func (m *Metrics) Calls(protocol string) *Calls {
	label := prometheus.Labels{"protocol": protocol}
	return &Calls{
		requests: m.requests.MustCurryWith(label),
		duration: m.duration.MustCurryWith(label),
		inFlight: m.inFlight.With(label),
		accepted: m.accepted.With(label),
		observed: map[outcome]observed{},
	}
}

// Observe counts an answered call. The route must be a template, so that callers can't make labels; code is "" on success.
func (c *Calls) Observe(route, method string, status int, code string, seconds float64) {
	key := outcome{route, method, status, code}
	c.mu.RLock()
	metrics, known := c.observed[key]
	c.mu.RUnlock()
	if !known {
		metrics = c.of(key)
	}
	metrics.requests.Inc()
	metrics.duration.Observe(seconds)
}

func (c *Calls) of(key outcome) observed {
	code := key.code
	if code == "" {
		code = "OK"
	}
	metrics := observed{
		requests: c.requests.WithLabelValues(key.route, key.method, strconv.Itoa(key.status), code),
		duration: c.duration.WithLabelValues(key.route, key.method),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observed[key] = metrics
	return metrics
}

// Connected counts a connection that a caller opened.
func (c *Calls) Connected() { c.accepted.Inc() }

// InFlight changes the number of calls being served.
func (c *Calls) InFlight(delta int) { c.inFlight.Add(float64(delta)) }

// WatchBackends reports the pods that status lists at the time of each scrape.
func (m *Metrics) WatchBackends(status func() []backend.Status) {
	m.registry.MustRegister(backendCollector{
		status: status,
		outstanding: prometheus.NewDesc(namespace+"_backend_outstanding",
			"Calls that a pod has not answered yet.", []string{"backend"}, nil),
		calls: prometheus.NewDesc(namespace+"_backend_calls_total",
			"Calls that were given to a pod, by lane or by themselves.", []string{"backend"}, nil),
		lane: prometheus.NewDesc(namespace+"_backend_lane",
			"1 where the stream that carries calls to a pod as its messages is open, else 0.", []string{"backend"}, nil),
		state: prometheus.NewDesc(namespace+"_backend_state",
			"1 for the state that a pod is in: ready, put_aside, connecting, idle, transient_failure or shutdown.", []string{"backend", "state"}, nil),
	})
}

// backendCollector reads the pods when scraped, so a pod that is gone leaves no series behind.
type backendCollector struct {
	status                          func() []backend.Status
	outstanding, calls, lane, state *prometheus.Desc
}

func (c backendCollector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- c.outstanding
	descriptions <- c.calls
	descriptions <- c.lane
	descriptions <- c.state
}

func (c backendCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, pod := range c.status() {
		metrics <- prometheus.MustNewConstMetric(c.outstanding, prometheus.GaugeValue, float64(pod.Outstanding), pod.Address)
		metrics <- prometheus.MustNewConstMetric(c.calls, prometheus.CounterValue, float64(pod.Calls), pod.Address)
		open := 0.0
		if pod.Lane {
			open = 1
		}
		metrics <- prometheus.MustNewConstMetric(c.lane, prometheus.GaugeValue, open, pod.Address)
		metrics <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, 1, pod.Address, stateName(pod))
	}
}

func stateName(pod backend.Status) string {
	if pod.PutAside && pod.Connection == connectivity.Ready {
		return "put_aside"
	}
	return strings.ToLower(pod.Connection.String())
}
