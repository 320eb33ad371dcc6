// Package target makes the calls that are measured.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// ErrNotLoopback marks a target outside this machine.
var ErrNotLoopback = errors.New("load may only go to this machine")

// CheckLoopback refuses every target but host:port with a loopback address or localhost.
func CheckLoopback(hostPort string) error {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return fmt.Errorf("target %q: %w; write for example 127.0.0.1:8000", hostPort, err)
	}
	if host == "localhost" {
		return nil
	}
	address, err := netip.ParseAddr(host)
	if err != nil || !address.Unmap().IsLoopback() {
		return fmt.Errorf("target %q: %w; publish the service on 127.0.0.1", hostPort, ErrNotLoopback)
	}
	return nil
}

// dialLoopback checks the resolved address as well: a name may mean anything.
func dialLoopback(ctx context.Context, network, hostPort string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, resolved string, _ syscall.RawConn) error { return checkResolved(resolved) }}
	return dialer.DialContext(ctx, network, hostPort)
}

func checkResolved(address string) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !resolved.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s: %w", address, ErrNotLoopback)
	}
	return nil
}
