package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

// counted tells of every connection that callers open: how many a gateway gets shows whether they find it.
type counted struct {
	net.Listener
	calls *telemetry.Calls
}

// Accept waits for a connection.
func (l counted) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err == nil {
		l.calls.Connected()
	}
	return accepted, err
}

// listeners are the gateway's three ports.
type listeners struct {
	rest, grpc, admin net.Listener
}

// listen takes all ports or none.
func listen(ctx context.Context, settings config.Listen) (listeners, error) {
	var (
		opened listeners
		failed error
	)
	take := func(key, address string) net.Listener {
		if failed != nil {
			return nil
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			failed = fmt.Errorf("%s: the port of %s is taken by another process; stop it or set another port: %w", key, address, err)
		case errors.Is(err, syscall.EACCES):
			failed = fmt.Errorf("%s: not allowed to listen on %s; set a port from 1024 up: %w", key, address, err)
		case err != nil:
			failed = fmt.Errorf("%s: cannot listen on %s; set an address of this machine: %w", key, address, err)
		}
		return listener
	}
	opened.rest = take("listen.rest", settings.REST)
	opened.grpc = take("listen.grpc", settings.GRPC)
	opened.admin = take("listen.admin", settings.Admin)
	if failed != nil {
		opened.close()
		return listeners{}, failed
	}
	return opened, nil
}

func (l listeners) close() {
	for _, listener := range []net.Listener{l.rest, l.grpc, l.admin} {
		if listener != nil {
			_ = listener.Close() // nothing was accepted yet
		}
	}
}
