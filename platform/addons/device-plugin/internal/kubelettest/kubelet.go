// Package kubelettest is the kubelet's side of the device plugin protocol, over real sockets, for tests.
package kubelettest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Patience bounds every wait of a test.
const Patience = 10 * time.Second

// Event is what the kubelet learned from a plugin: a new list of devices, or that the stream ended.
type Event struct {
	Resource string
	IDs      []string
	Ended    bool
}

// Kubelet accepts registrations in a folder, and watches every plugin that registers.
type Kubelet struct {
	pluginapi.UnimplementedRegistrationServer

	dir    string
	server *grpc.Server
	events chan Event
	cancel context.CancelFunc
	ctx    context.Context
	wait   sync.WaitGroup

	mu      sync.Mutex
	plugins map[string]*grpc.ClientConn // by resource
}

// Dir makes a folder whose path leaves room for a socket's name; the test framework's own may be too long.
func Dir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kubelet") //nolint:usetesting // see above: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Start starts the kubelet, which first removes every socket from its folder, as the real one does.
func Start(t *testing.T, dir string) *Kubelet {
	t.Helper()
	for _, stale := range Sockets(t, dir) {
		if err := os.Remove(filepath.Join(dir, stale)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &Kubelet{
		dir: dir, server: grpc.NewServer(), events: make(chan Event, 64), ctx: ctx, cancel: cancel,
		plugins: map[string]*grpc.ClientConn{},
	}
	pluginapi.RegisterRegistrationServer(k.server, k)
	k.wait.Go(func() {
		if err := k.server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(k.Stop)
	return k
}

// Stop ends the kubelet as its process's death would: with all its connections.
func (k *Kubelet) Stop() {
	k.cancel()
	k.server.Stop()
	k.mu.Lock()
	for resource, connection := range k.plugins {
		_ = connection.Close()
		delete(k.plugins, resource)
	}
	k.mu.Unlock()
	k.wait.Wait()
}

// Register refuses what the real kubelet refuses, then calls the plugin back.
func (k *Kubelet) Register(_ context.Context, request *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	if request.GetVersion() != pluginapi.Version {
		return nil, status.Errorf(codes.InvalidArgument, "version %q is not supported", request.GetVersion())
	}
	connection, err := grpc.NewClient("unix://"+filepath.Join(k.dir, request.GetEndpoint()),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	if previous := k.plugins[request.GetResourceName()]; previous != nil {
		_ = previous.Close()
	}
	k.plugins[request.GetResourceName()] = connection
	k.mu.Unlock()
	k.wait.Go(func() { k.watch(request.GetResourceName(), connection) })
	return &pluginapi.Empty{}, nil
}

func (k *Kubelet) watch(resource string, connection *grpc.ClientConn) {
	stream, err := pluginapi.NewDevicePluginClient(connection).ListAndWatch(k.ctx, &pluginapi.Empty{})
	for err == nil {
		var list *pluginapi.ListAndWatchResponse
		if list, err = stream.Recv(); err == nil {
			k.events <- Event{Resource: resource, IDs: healthy(list)}
		}
	}
	k.events <- Event{Resource: resource, Ended: true}
}

func healthy(list *pluginapi.ListAndWatchResponse) []string {
	ids := []string{}
	for _, device := range list.GetDevices() {
		if device.GetHealth() == pluginapi.Healthy {
			ids = append(ids, device.GetID())
		}
	}
	return ids
}

// Next waits for what the kubelet learns next.
func (k *Kubelet) Next(t *testing.T) Event {
	t.Helper()
	select {
	case event := <-k.events:
		return event
	case <-time.After(Patience):
		t.Fatal("the kubelet learned nothing new in time")
		return Event{}
	}
}

// Allocate asks for devices as for one pod, with one list of ids per container, and returns the containers' variables.
func (k *Kubelet) Allocate(t *testing.T, resource string, containers ...[]string) ([]map[string]string, error) {
	t.Helper()
	k.mu.Lock()
	connection := k.plugins[resource]
	k.mu.Unlock()
	if connection == nil {
		t.Fatalf("no plugin has registered %s", resource)
	}
	request := &pluginapi.AllocateRequest{}
	for _, ids := range containers {
		request.ContainerRequests = append(request.ContainerRequests, &pluginapi.ContainerAllocateRequest{DevicesIds: ids})
	}
	response, err := pluginapi.NewDevicePluginClient(connection).Allocate(k.ctx, request)
	variables := make([]map[string]string, 0, len(containers))
	for _, container := range response.GetContainerResponses() {
		variables = append(variables, container.GetEnvs())
	}
	return variables, err
}

// Sockets lists the names of the sockets in the folder.
func Sockets(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		if entry.Type()&os.ModeSocket != 0 {
			names = append(names, entry.Name())
		}
	}
	return names
}
