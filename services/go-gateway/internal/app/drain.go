package app

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// farewell is how long the ports stay open after the end is announced: callers that keep connections open read
// `Connection: close` in their next answer, instead of losing a request that crosses the closing of the connection.
const farewell = time.Second

// Streams end this long before the drain cuts off whatever is left, so that they can say so: lastWords, or a share of
// drain.timeout where that is less.
const (
	lastWordsShare = 10
	lastWords      = time.Second
)

// drain announces the end, lets running calls finish for at most drain.timeout, and closes every port; the admin port is the
// last, so that readiness and metrics can be read meanwhile.
func (p *process) drain(ctx context.Context) {
	p.draining.Store(true)
	p.grpc.Draining()
	p.logger.Info("Draining", "timeout", p.drainTimeout)

	ctx, cancel := context.WithTimeout(ctx, p.drainTimeout)
	defer cancel()
	select {
	case <-time.After(min(farewell, p.drainTimeout/4)):
	case <-ctx.Done():
	}

	cut, _ := ctx.Deadline()
	end := time.AfterFunc(time.Until(cut)-min(lastWords, p.drainTimeout/lastWordsShare), p.endStreams)
	defer end.Stop()

	var group errgroup.Group
	group.Go(func() error {
		err := p.rest.Shutdown(ctx)
		if err != nil {
			_ = p.rest.Close() // the failure that counts is Shutdown's
		}
		return err
	})
	group.Go(func() error { return p.grpc.Drain(ctx) })
	if err := group.Wait(); err != nil {
		p.logger.Warn("Cut off calls that outlasted drain.timeout", "timeout", p.drainTimeout, "error", err)
	}
	if err := p.admin.Close(); err != nil {
		p.logger.Warn("Cannot close the admin port", "error", err)
	}
}
