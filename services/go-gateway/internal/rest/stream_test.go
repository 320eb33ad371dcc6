package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// silentAfter is a model that says nothing more after these texts, until its call ends.
func silentAfter(texts ...string) *pod {
	b := saying(texts...)
	say := b.stream
	b.stream = func(request *pb.ModelInferRequest, stream serverStream) error {
		if err := say(request, stream); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return b
}

func TestStreamThatIsLateEndsWithAnError(t *testing.T) {
	const short = 50 * time.Millisecond
	for name, test := range map[string]struct {
		b      *pod
		change func(*Streaming)
		header string
		status int
		want   string
	}{
		"before the first response": {silentAfter(), func(s *Streaming) { s.FirstResponse = short }, "Accept: */*", http.StatusGatewayTimeout, "streaming.firstResponseTimeout = 50ms"},
		"between responses":         {silentAfter("a"), func(s *Streaming) { s.BetweenResponses = short }, "Accept: */*", http.StatusOK, "streaming.responseTimeout = 50ms"},
		"in all":                    {silentAfter("a"), func(s *Streaming) { s.Total = short }, "Accept: */*", http.StatusOK, "the deadline passed"},
		"in the caller's view":      {silentAfter("a"), nil, "X-Request-Timeout: 50ms", http.StatusOK, "the deadline passed"},
		"at once in that view":      {silentAfter(), nil, "X-Request-Timeout: 50ms", http.StatusGatewayTimeout, "the deadline passed"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, test.b, func(options *Options) {
				if test.change != nil {
					test.change(&options.Streaming)
				}
			})
			got := g.call(t, "POST", streamPath, generateBody, test.header)
			if got.status != test.status || !strings.Contains(got.body, test.want) || !strings.Contains(got.body, "DEADLINE_EXCEEDED") {
				t.Errorf("got %d %q, want %d and %q", got.status, got.body, test.status, test.want)
			}
			if test.status == http.StatusOK && !strings.HasPrefix(got.body, event("a")) {
				t.Errorf("the first event is missing: %q", got.body)
			}
		})
	}
}

func TestCallersOwnDeadlineOverrulesTheOneForTheFirstResponse(t *testing.T) {
	b := saying("a")
	say := b.stream
	b.stream = func(request *pb.ModelInferRequest, stream serverStream) error {
		time.Sleep(20 * time.Millisecond)
		return say(request, stream)
	}
	g := newGateway(t, b, func(options *Options) { options.Streaming.FirstResponse = time.Millisecond })
	if got := g.call(t, "POST", streamPath, generateBody, "X-Request-Timeout: 30"); got.body != event("a") {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestSilentStreamHasHeartbeats(t *testing.T) {
	g := newGateway(t, silentAfter("a"), func(options *Options) { options.Streaming.Heartbeat = 10 * time.Millisecond })
	reader, hangUp := g.begin(t)
	defer hangUp()
	for _, want := range []string{event("a"), ": ping\n\n", ": ping\n\n"} {
		if got := nextEvent(t, reader); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// begin begins a stream and reads it as it comes.
func (g *gateway) begin(t *testing.T) (*bufio.Reader, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+streamPath, strings.NewReader(generateBody))
	if err != nil {
		t.Fatal(err)
	}
	response, err := g.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = response.Body.Close() // of a stream that the test has left
	})
	if response.StatusCode != http.StatusOK {
		t.Fatalf("got %s", response.Status)
	}
	return bufio.NewReader(response.Body), cancel
}

// nextEvent is the text up to the next empty line.
func nextEvent(t *testing.T, reader *bufio.Reader) string {
	t.Helper()
	var got strings.Builder
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, got.String()+line)
		}
		got.WriteString(line)
		if line == "\n" {
			return got.String()
		}
	}
}

func TestCallerThatLeavesAStreamStopsTheModelWithinOneStep(t *testing.T) {
	var steps atomic.Int64
	step, stopped := make(chan struct{}), make(chan error, 1)
	b := &pod{describe: textModel, stream: func(_ *pb.ModelInferRequest, stream serverStream) error {
		for {
			select {
			case <-step:
				steps.Add(1)
				if err := stream.Send(&pb.ModelStreamInferResponse{InferResponse: text("a")}); err != nil {
					return err
				}
			case <-stream.Context().Done():
				stopped <- stream.Context().Err()
				return stream.Context().Err()
			}
		}
	}}
	g := newGateway(t, b, nil)
	go func() {
		for range 3 {
			step <- struct{}{}
		}
	}()
	reader, hangUp := g.begin(t)
	for range 3 {
		nextEvent(t, reader)
	}
	hangUp()
	select {
	case err := <-stopped:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the model's call ended with %v, want it cancelled", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the model was not told")
	}
	if got := steps.Load(); got != 3 {
		t.Errorf("the model took %d steps, the caller 3", got)
	}
	if seen := <-g.observed; seen.code != "CANCELLED" {
		t.Errorf("observed %+v", seen)
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.open != 0 {
		t.Errorf("%d streams are open", g.open)
	}
}

// Neither the gateway nor its buffers may take in what a caller doesn't read.
func TestCallerThatReadsNothingHoldsTheModelBackAndIsCutOff(t *testing.T) {
	var sent atomic.Int64
	content := strings.Repeat("x", 64<<10)
	stopped := make(chan struct{})
	b := &pod{describe: textModel, stream: func(_ *pb.ModelInferRequest, stream serverStream) error {
		defer close(stopped)
		for {
			if err := stream.Send(&pb.ModelStreamInferResponse{InferResponse: text(content)}); err != nil {
				return err
			}
			sent.Add(int64(len(content)))
		}
	}}
	g := newGateway(t, b, func(options *Options) { options.Streaming.WriteTimeout = 300 * time.Millisecond })
	g.begin(t)
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("the model was not stopped")
	}
	if seen := <-g.observed; seen.code != "CANCELLED" {
		t.Errorf("observed %+v", seen)
	}
	const buffers = 32 << 20 // of two sockets and two ends of gRPC, with room to spare
	if got := sent.Load(); got > buffers {
		t.Errorf("the model sent %d bytes to a caller that read nothing", got)
	}
	if lines := g.logged(t); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["error"]), "streaming.writeTimeout = 300ms") {
		t.Errorf("logged %v", lines)
	}
}

func TestConnectionOutlivesItsStreams(t *testing.T) {
	g := newGateway(t, saying("a"), func(options *Options) { options.Streaming.WriteTimeout = 20 * time.Millisecond })
	g.call(t, "POST", streamPath, generateBody)
	time.Sleep(40 * time.Millisecond) // until the stream's write deadline has passed
	if got := g.call(t, "POST", streamPath, generateBody); got.body != event("a") {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestStreamsEndWhenTheGatewayEnds(t *testing.T) {
	ending := make(chan struct{})
	g := newGateway(t, silentAfter("a"), func(options *Options) { options.Streaming.Ending = ending })
	reader, _ := g.begin(t)
	nextEvent(t, reader)
	close(ending)
	if got := nextEvent(t, reader); !strings.HasPrefix(got, `data: {"error":"the gateway is shutting down`) || !strings.Contains(got, `"code":"SERVER_DRAINING"`) {
		t.Errorf("got %q", got)
	}
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("after the last event: %v, want the end", err)
	}
}
