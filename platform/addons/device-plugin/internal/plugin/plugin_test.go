package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/kubelettest"
	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/offer"
	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/plugin"
)

const (
	node     = "node-a"
	gpu      = "nvidia.com/gpu"
	interval = 5 * time.Millisecond
)

// catalogue is a source that the test edits.
type catalogue struct {
	mu    sync.Mutex
	offer offer.Offer
	err   error
}

func (c *catalogue) read() (offer.Offer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offer, c.err
}

func (c *catalogue) set(o offer.Offer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offer, c.err = o, err
}

// lockedBuffer holds logs that the plugin still writes while the test reads.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

type running struct {
	*plugin.Plugin
	logs *lockedBuffer
	stop func()
}

func run(t *testing.T, dir string, source offer.Source) running {
	t.Helper()
	logs := &lockedBuffer{}
	p, err := plugin.New(dir, node, source, slog.New(slog.NewJSONHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx, interval)
	}()
	stop := func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return running{p, logs, stop}
}

// awaitState waits until the state satisfies the condition.
func (r running) awaitState(t *testing.T, what string, holds func(error) bool) {
	t.Helper()
	deadline := time.After(kubelettest.Patience)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !holds(r.State()) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the state never became %s; it is: %v", what, r.State())
		}
	}
}

func ready(err error) bool { return err == nil }

func expect(t *testing.T, kubelet *kubelettest.Kubelet, o offer.Offer) {
	t.Helper()
	got := kubelet.Next(t)
	if got.Ended || got.Resource != o.Resource || !slices.Equal(got.IDs, o.DeviceIDs(node)) {
		t.Fatalf("the kubelet learned %+v, want %+v", got, o)
	}
}

func TestRegistersAndListsTheOffer(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	two := offer.Offer{Resource: gpu, Count: 2}

	p := run(t, dir, offer.Fixed(two))

	expect(t, kubelet, two)
	p.awaitState(t, "ready", ready)
}

func TestSendsANewListWhenTheCountChanges(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	source := &catalogue{offer: offer.Offer{Resource: gpu, Count: 2}}
	run(t, dir, source.read)
	expect(t, kubelet, offer.Offer{Resource: gpu, Count: 2})

	for _, count := range []int{4, 1, 0, 2} {
		changed := offer.Offer{Resource: gpu, Count: count}
		source.set(changed, nil)
		expect(t, kubelet, changed)
	}
}

func TestWithdrawsTheOldResourceWhenItIsRenamed(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	source := &catalogue{offer: offer.Offer{Resource: gpu, Count: 2}}
	run(t, dir, source.read)
	expect(t, kubelet, offer.Offer{Resource: gpu, Count: 2})

	slice := offer.Offer{Resource: "nvidia.com/mig-1g.5gb", Count: 7}
	source.set(slice, nil)

	expect(t, kubelet, offer.Offer{Resource: gpu, Count: 0})
	if end := kubelet.Next(t); !end.Ended || end.Resource != gpu {
		t.Fatalf("got %+v, want the end of the old resource's stream", end)
	}
	expect(t, kubelet, slice)
	if got, want := kubelettest.Sockets(t, dir), []string{"kubelet.sock", "polyglot-nvidia.com_mig-1g.5gb.sock"}; !slices.Equal(got, want) {
		t.Errorf("sockets are %v, want %v", got, want)
	}
}

func TestAllocateNamesTheDevicesOfEachContainer(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	three := offer.Offer{Resource: gpu, Count: 3}
	run(t, dir, offer.Fixed(three))
	expect(t, kubelet, three)
	ids := three.DeviceIDs(node)

	got, err := kubelet.Allocate(t, gpu, []string{ids[2], ids[0]}, []string{ids[1]})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{ids[2] + "," + ids[0], ids[1]}
	for i, variables := range got {
		if len(variables) != 1 || variables["NVIDIA_VISIBLE_DEVICES"] != want[i] {
			t.Errorf("container %d got %v, want %s", i, variables, want[i])
		}
	}
}

func TestAllocateRefusesADeviceThatIsNotOffered(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	source := &catalogue{offer: offer.Offer{Resource: gpu, Count: 2}}
	run(t, dir, source.read)
	expect(t, kubelet, offer.Offer{Resource: gpu, Count: 2})
	vanished := offer.Offer{Resource: gpu, Count: 2}.DeviceIDs(node)[1]
	source.set(offer.Offer{Resource: gpu, Count: 1}, nil)
	expect(t, kubelet, offer.Offer{Resource: gpu, Count: 1})

	for _, id := range []string{"GPU-unknown", vanished} {
		_, err := kubelet.Allocate(t, gpu, []string{id})
		if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), id) {
			t.Errorf("got %v, want NOT_FOUND that names %s", err, id)
		}
	}
}

func TestRegistersAgainWhenTheKubeletRestarts(t *testing.T) {
	dir := kubelettest.Dir(t)
	two := offer.Offer{Resource: gpu, Count: 2}
	first := kubelettest.Start(t, dir)
	p := run(t, dir, offer.Fixed(two))
	expect(t, first, two)

	first.Stop()
	p.awaitState(t, "unready while the kubelet is down", func(err error) bool { return err != nil })
	second := kubelettest.Start(t, dir)

	expect(t, second, two)
	p.awaitState(t, "ready", ready)
}

func TestServesAgainWhenItsSocketIsRemoved(t *testing.T) {
	dir := kubelettest.Dir(t)
	two := offer.Offer{Resource: gpu, Count: 2}
	kubelet := kubelettest.Start(t, dir)
	run(t, dir, offer.Fixed(two))
	expect(t, kubelet, two)

	if err := os.Remove(filepath.Join(dir, "polyglot-nvidia.com_gpu.sock")); err != nil {
		t.Fatal(err)
	}

	if end := kubelet.Next(t); !end.Ended {
		t.Fatalf("got %+v, want the end of the old stream", end)
	}
	expect(t, kubelet, two)
}

func TestReplacesTheSocketOfAKilledPredecessor(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "polyglot-nvidia.com_gpu.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	two := offer.Offer{Resource: gpu, Count: 2}

	run(t, dir, offer.Fixed(two))

	expect(t, kubelet, two)
}

func TestWaitsForAKubeletThatIsNotThereYet(t *testing.T) {
	dir := kubelettest.Dir(t)
	two := offer.Offer{Resource: gpu, Count: 2}
	p := run(t, dir, offer.Fixed(two))
	p.awaitState(t, "an error that says so", func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "the kubelet does not listen")
	})

	kubelet := kubelettest.Start(t, dir)

	expect(t, kubelet, two)
	p.awaitState(t, "ready", ready)
}

func TestKeepsTheLastValidOfferWhileTheSourceIsBroken(t *testing.T) {
	dir := kubelettest.Dir(t)
	two := offer.Offer{Resource: gpu, Count: 2}
	first := kubelettest.Start(t, dir)
	source := &catalogue{offer: two}
	p := run(t, dir, source.read)
	expect(t, first, two)

	broken := errors.New("count is missing")
	source.set(offer.Offer{}, broken)
	p.awaitState(t, "the source's error", func(err error) bool { return errors.Is(err, broken) })
	first.Stop()
	second := kubelettest.Start(t, dir)
	expect(t, second, two)
	source.set(offer.Offer{Resource: gpu, Count: 3}, nil)

	expect(t, second, offer.Offer{Resource: gpu, Count: 3})
	p.awaitState(t, "ready", ready)
}

func TestLogsALastingErrorOnce(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	two := offer.Offer{Resource: gpu, Count: 2}
	passes := make(chan struct{}) // one receive is one pass
	p := run(t, dir, brokenAfterTheFirst(two, passes))
	for range 5 {
		<-passes
	}
	expect(t, kubelet, two)
	go func() {
		for range passes { // let the plugin go on until it stops
		}
	}()
	p.stop()
	close(passes)

	if n := strings.Count(p.logs.String(), "the ConfigMap is broken"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, p.logs.String())
	}
}

// brokenAfterTheFirst is valid when the plugin is made, and broken in every pass.
func brokenAfterTheFirst(first offer.Offer, passes chan<- struct{}) offer.Source {
	made := false
	return func() (offer.Offer, error) {
		if !made {
			made = true
			return first, nil
		}
		passes <- struct{}{}
		return offer.Offer{}, errors.New("the ConfigMap is broken")
	}
}

func TestLeavesNoSocketBehindWhenItStops(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelet := kubelettest.Start(t, dir)
	two := offer.Offer{Resource: gpu, Count: 2}
	p := run(t, dir, offer.Fixed(two))
	expect(t, kubelet, two)

	p.stop()

	// The stream ends without an empty list: a plugin that is replaced takes no device from the node's capacity.
	if end := kubelet.Next(t); !end.Ended {
		t.Errorf("got %+v, want the end of the stream", end)
	}
	if got := kubelettest.Sockets(t, dir); !slices.Equal(got, []string{"kubelet.sock"}) {
		t.Errorf("sockets left: %v", got)
	}
}

func TestRefusesAnOfferThatIsInvalidAtTheStart(t *testing.T) {
	_, err := plugin.New(kubelettest.Dir(t), node, offer.Fixed(offer.Offer{Resource: "gpu"}), slog.Default())
	if !errors.Is(err, offer.ErrInvalid) {
		t.Fatalf("got %v, want an invalid offer", err)
	}
}

func TestSaysSoWhenTheSocketPathIsTooLong(t *testing.T) {
	dir := kubelettest.Dir(t)
	kubelettest.Start(t, dir)
	long := offer.Offer{Resource: "accelerators." + strings.Repeat("long.", 20) + "example/gpu", Count: 1}

	p := run(t, dir, offer.Fixed(long))

	p.awaitState(t, "an error with the remedy", func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "use a shorter resource name")
	})
}
