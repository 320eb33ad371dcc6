package telemetry

import (
	"strings"

	"google.golang.org/grpc/connectivity"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
)

// Description is one metric as docs/reference/metrics.md shows it.
type Description struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Labels []string `json:"labels"`
	Help   string   `json:"help"`
}

// Describe lists the gateway's own metrics, those of the Go runtime and the process aside. It reads them from a registry in
// which one of everything has happened, since a registry tells the type and the labels of a metric only with a value.
func Describe() ([]Description, error) {
	families, err := oneOfEverything().registry.Gather()
	if err != nil {
		return nil, err
	}
	var list []Description
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), namespace) {
			continue
		}
		labels := []string{}
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		list = append(list, Description{
			Name: family.GetName(), Type: strings.ToLower(family.GetType().String()), Labels: labels, Help: family.GetHelp(),
		})
	}
	return list, nil
}

func oneOfEverything() *Metrics {
	m := NewMetrics("")
	calls := m.Calls("rest")
	calls.InFlight(1)
	calls.Observe("", "", 0, "", 0)
	streams := m.Streams()
	streams.Open(1)
	streams.FirstResponse(0)
	streams.Event("")
	m.Resolved(0)
	m.Retried(backend.RetryDraining)
	m.Held(true)
	batches := m.Batches("")
	batches.Sent(batch.SentIdle, 1)
	batches.Dropped(batch.DroppedFull)
	m.WatchBackends(func() []backend.Status { return []backend.Status{{Connection: connectivity.Ready}} })
	return m
}
