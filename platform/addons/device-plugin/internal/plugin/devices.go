// Package plugin speaks the kubelet's device plugin protocol, v1beta1.
//
// It is level-triggered: once per interval [Plugin.Run] compares what is offered, what is served and whether the kubelet
// watches, and corrects the difference. A restarted kubelet, a removed socket and an edited offer are the same case.
//
// Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
package plugin

import (
	"context"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// visibleDevices is what NVIDIA's container runtime and CUDA frameworks read.
const visibleDevices = "NVIDIA_VISIBLE_DEVICES"

// devices is the protocol's plugin side for one resource: the list that the kubelet watches and allocates from.
type devices struct {
	pluginapi.UnimplementedDevicePluginServer

	mu       sync.Mutex
	ids      []string
	closed   bool
	changed  chan struct{} // closed and replaced at every change
	watchers int
}

func newDevices(ids []string) *devices {
	return &devices{ids: ids, changed: make(chan struct{})}
}

// replace offers another list; a device that is no longer in it has left the node.
func (d *devices) replace(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.ids, ids) {
		d.ids = ids
		d.announce()
	}
}

// close ends the streams of all watchers after they were sent the list that holds now.
func (d *devices) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.announce()
}

func (d *devices) announce() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *devices) snapshot() (ids []string, closed bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids, d.closed, d.changed
}

// watched tells whether the kubelet holds a stream, and gives the channel that is closed at the next change.
func (d *devices) watched() (bool, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.watchers > 0, d.changed
}

func (d *devices) countWatcher(delta int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers += delta
	d.announce()
}

// GetDevicePluginOptions says that the plugin needs neither PreStartContainer nor GetPreferredAllocation.
func (d *devices) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return &pluginapi.DevicePluginOptions{}, nil
}

// ListAndWatch sends the whole list now and after every change, until either side ends.
func (d *devices) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	d.countWatcher(+1)
	defer d.countWatcher(-1)
	var sent []string
	for first := true; ; first = false {
		ids, closed, changed := d.snapshot()
		if first || !slices.Equal(sent, ids) {
			if err := stream.Send(listOf(ids)); err != nil {
				return err
			}
			sent = ids
		}
		if closed {
			return nil
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func listOf(ids []string) *pluginapi.ListAndWatchResponse {
	list := &pluginapi.ListAndWatchResponse{Devices: make([]*pluginapi.Device, len(ids))}
	for i, id := range ids {
		list.Devices[i] = &pluginapi.Device{ID: id, Health: pluginapi.Healthy}
	}
	return list
}

// Allocate gives each container its devices by name; NOT_FOUND where one is not offered (any more).
func (d *devices) Allocate(_ context.Context, request *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	offered, _, _ := d.snapshot()
	response := &pluginapi.AllocateResponse{}
	for _, container := range request.GetContainerRequests() {
		wanted := container.GetDevicesIds()
		for _, id := range wanted {
			if !slices.Contains(offered, id) {
				return nil, status.Errorf(codes.NotFound,
					"device %q is not on this node (any more): the pod fails and its controller makes a new one", id)
			}
		}
		response.ContainerResponses = append(response.ContainerResponses, &pluginapi.ContainerAllocateResponse{
			Envs: map[string]string{visibleDevices: strings.Join(wanted, ",")},
		})
	}
	return response, nil
}
