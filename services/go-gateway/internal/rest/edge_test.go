package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestCallerThatHangsUpCancelsTheBackend(t *testing.T) {
	for name, test := range map[string]struct{ method, path, body, route string }{
		"infer": {http.MethodPost, inferPath, inferBody, "/v2/models/{model}/infer"},
		"ready": {http.MethodGet, "/v2/health/ready", "", "/v2/health/ready"},
	} {
		t.Run(name, func(t *testing.T) {
			started, cancelled := make(chan struct{}), make(chan error, 1)
			wait := func(ctx context.Context) {
				close(started)
				<-ctx.Done()
				cancelled <- ctx.Err()
			}
			g := newGateway(t, &pod{ready: wait, infer: func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				wait(ctx)
				return nil, ctx.Err()
			}}, nil)
			ctx, hangUp := context.WithCancel(t.Context())
			go func() {
				<-started
				hangUp()
			}()
			request, err := http.NewRequestWithContext(ctx, test.method, g.URL+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := g.Client().Do(request)
			if err == nil {
				t.Fatalf("got %s and %v, want the call cancelled", response.Status, response.Body.Close())
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if err := <-cancelled; !errors.Is(err, context.Canceled) {
				t.Errorf("the backend's call ended with %v, want it cancelled", err)
			}
			if seen := <-g.observed; seen != (observation{test.route, test.method, 499, "CANCELLED"}) {
				t.Errorf("observed %+v", seen)
			}
		})
	}
}

func TestFailedCallIsLoggedOnceWithWhatIsKnown(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	g.call(t, "POST", "/v2/models/none/infer", inferBody, "X-Request-Id: r-1")
	lines := g.logged(t)
	want := map[string]any{
		"level": "INFO", "msg": "Failed call", "route": "/v2/models/{model}/infer", "method": "POST", "path": "/v2/models/none/infer",
		"status": 404.0, "code": "MODEL_NOT_FOUND", "error": `no model "none" in version ""`, "requestId": "r-1",
	}
	if len(lines) != 1 || len(lines[0]) != len(want) {
		t.Fatalf("logged %v, want one line %v", lines, want)
	}
	for key, value := range want {
		if lines[0][key] != value {
			t.Errorf("%s is %v, want %v", key, lines[0][key], value)
		}
	}
}

func TestCallsInFlightAreCountedUpAndDown(t *testing.T) {
	started, proceed := make(chan struct{}), make(chan struct{})
	g := newGateway(t, &pod{infer: func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		close(started)
		<-proceed
		return &pb.ModelInferResponse{}, nil
	}}, nil)
	answered := make(chan int, 1)
	go func() { answered <- g.call(t, "POST", inferPath, inferBody).status }()
	<-started
	if got := g.flying(); got != 1 {
		t.Errorf("%d calls in flight, want 1", got)
	}
	close(proceed)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	g.Close() // waits for the handler
	if got := g.flying(); got != 0 {
		t.Errorf("%d calls in flight after the answer, want 0", got)
	}
}

func (g *gateway) flying() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.inFlight
}

// gone is a connection whose other end is closed.
type gone struct{ http.ResponseWriter }

func (gone) Header() http.Header       { return http.Header{} }
func (gone) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAnswerThatNobodyTakesIsACancelledCall(t *testing.T) {
	err := answer(gone{}, "application/json", []byte("{}"))
	if failure := apierr.From(err); failure.Code != apierr.Cancelled {
		t.Errorf("got %s %q, want CANCELLED", failure.Code, failure.Message)
	}
}
