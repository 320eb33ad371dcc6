package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/offer"
)

// errNotStarted is the state before the first pass.
var errNotStarted = errors.New("not registered with the kubelet yet")

// Plugin keeps the kubelet's knowledge of the devices equal to the offer.
type Plugin struct {
	dir    string
	node   string
	source offer.Source
	log    *slog.Logger

	current  offer.Offer // the last valid one
	endpoint *endpoint

	mu    sync.Mutex
	state error
}

// New makes the plugin for the kubelet whose device plugin folder is dir.
//
// node is part of the device ids. The source must be valid now; when it turns invalid later, the last valid offer stays.
func New(dir, node string, source offer.Source, log *slog.Logger) (*Plugin, error) {
	current, err := source()
	if err != nil {
		return nil, err
	}
	return &Plugin{dir: dir, node: node, source: source, log: log, current: current, state: errNotStarted}, nil
}

// Run corrects differences every interval until the context ends, then leaves no socket behind.
func (p *Plugin) Run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := p.reconcile(ctx); ctx.Err() == nil {
			p.report(err)
		}
		select {
		case <-ctx.Done():
			p.stop()
			return
		case <-ticker.C:
		}
	}
}

// State is nil while the kubelet watches what the source offers, else the reason why not.
func (p *Plugin) State() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// reconcile registers even when the source is broken: a typing error must not take devices from the node.
func (p *Plugin) reconcile(ctx context.Context) error {
	sourceErr := p.refresh()
	if p.endpoint != nil && p.endpoint.resource != p.current.Resource {
		p.endpoint.withdraw()
		p.endpoint = nil
	}
	if p.endpoint != nil && p.endpoint.intact() {
		p.endpoint.devices.replace(p.current.DeviceIDs(p.node))
		return sourceErr
	}
	return errors.Join(sourceErr, p.connect(ctx))
}

func (p *Plugin) refresh() error {
	next, err := p.source()
	if err != nil {
		return fmt.Errorf("%w (still offering %d %s)", err, p.current.Count, p.current.Resource)
	}
	if next != p.current {
		p.log.Info("Changed the offer", "resource", next.Resource, "count", next.Count,
			"previousResource", p.current.Resource, "previousCount", p.current.Count)
		p.current = next
	}
	return nil
}

func (p *Plugin) connect(ctx context.Context) error {
	p.stop()
	if err := reachKubelet(ctx, p.dir); err != nil {
		return err
	}
	next, err := listen(ctx, p.dir, p.current.Resource, p.current.DeviceIDs(p.node))
	if err != nil {
		return err
	}
	p.endpoint = next
	if err := next.register(ctx, p.dir); err != nil {
		return err
	}
	p.log.Info("Registered with the kubelet",
		"resource", p.current.Resource, "count", p.current.Count, "socket", next.path)
	return nil
}

func (p *Plugin) stop() {
	if p.endpoint != nil {
		p.endpoint.stop()
		p.endpoint = nil
	}
}

// report publishes the outcome of a pass, and logs it when it differs from the last one.
func (p *Plugin) report(err error) {
	p.mu.Lock()
	previous := p.state
	p.state = err
	p.mu.Unlock()
	if err != nil && (previous == nil || previous.Error() != err.Error()) {
		p.log.Error("Not in step with the kubelet; trying again", "error", err)
	}
}
