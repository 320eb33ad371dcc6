package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	kubeletSocket = "kubelet.sock"
	// maxSocketPath is sun_path of unix(7) without its final NUL.
	maxSocketPath = 107
	// registerTimeout covers the kubelet's answer and its call back to ListAndWatch.
	registerTimeout = 5 * time.Second
	// stopTimeout bounds the wait for calls in flight.
	stopTimeout = 2 * time.Second
)

// endpoint is one resource's plugin socket in the kubelet's folder, and the server behind it.
type endpoint struct {
	resource string
	path     string
	devices  *devices
	server   *grpc.Server
}

func listen(ctx context.Context, dir, resource string, ids []string) (*endpoint, error) {
	path := filepath.Join(dir, "polyglot-"+strings.ReplaceAll(resource, "/", "_")+".sock")
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s is longer than %d bytes: use a shorter resource name", path, maxSocketPath)
	}
	// A killed predecessor leaves its socket behind, and bind refuses a name that exists.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale plugin socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the plugin socket: %w", err)
	}
	e := &endpoint{resource: resource, path: path, devices: newDevices(ids), server: grpc.NewServer()}
	pluginapi.RegisterDevicePluginServer(e.server, e.devices)
	// Serve returns an error only when the listener breaks; the lost watch then makes the next pass listen anew.
	go func() { _ = e.server.Serve(listener) }()
	return e, nil
}

// reachKubelet fails while no kubelet listens.
//
// A starting kubelet removes every socket from its folder and then listens: a plugin socket made after this call stays.
// https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/cm/devicemanager/plugin/v1beta1/server.go
func reachKubelet(ctx context.Context, dir string) error {
	connection, err := (&net.Dialer{Timeout: registerTimeout}).DialContext(ctx, "unix", filepath.Join(dir, kubeletSocket))
	if err != nil {
		return fmt.Errorf("the kubelet does not listen: %w", err)
	}
	return connection.Close()
}

// register announces the endpoint and returns once the kubelet watches its devices.
func (e *endpoint) register(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+filepath.Join(dir, kubeletSocket),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("dial the kubelet: %w", err)
	}
	defer func() { _ = connection.Close() }() // a client connection's Close fails only when called twice
	_, err = pluginapi.NewRegistrationClient(connection).Register(ctx, &pluginapi.RegisterRequest{
		Version:      pluginapi.Version,
		Endpoint:     filepath.Base(e.path),
		ResourceName: e.resource,
		Options:      &pluginapi.DevicePluginOptions{},
	})
	if err != nil {
		return fmt.Errorf("register %s with the kubelet: %w", e.resource, err)
	}
	return e.awaitWatch(ctx)
}

func (e *endpoint) awaitWatch(ctx context.Context) error {
	for {
		watched, changed := e.devices.watched()
		if watched {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the kubelet accepted %s but did not call ListAndWatch: %w", e.resource, ctx.Err())
		}
	}
}

// intact tells whether the kubelet still watches and can still reach the socket.
func (e *endpoint) intact() bool {
	watched, _ := e.devices.watched()
	_, err := os.Stat(e.path)
	return watched && err == nil
}

// withdraw tells the kubelet that the devices have left the node, then stops.
func (e *endpoint) withdraw() {
	e.devices.replace(nil)
	e.stop()
}

// stop ends the server and removes its socket; to the kubelet the devices are now unhealthy, not gone.
func (e *endpoint) stop() {
	e.devices.close()
	expired := time.AfterFunc(stopTimeout, e.server.Stop)
	e.server.GracefulStop() // closes the listener, which removes the socket
	expired.Stop()
}
