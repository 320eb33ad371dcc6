// Package batch joins requests for one model into batches, because a call costs an inference server the same whatever it
// holds: one call of 16 rows costs hardly more than one of a single row.
//
// Requests that can be joined (entry.go) wait in a queue of their own kind (queue.go): one model version, the same inputs with
// the same shapes but for the number of rows, the same outputs. The members of the backend pull from the queues, each with one
// batch of a model under way (model.go): a member that is idle takes what is there at once, and while all are busy the queue
// grows, which is the batching. Nobody waits for a batch to become full, with one exception: after a batch of several rows a member waits a
// little for the callers whose answers it just sent, who mostly come back at once.
//
// A batch is never larger than what its members' deadlines allow, as far as the times of earlier batches tell (estimate.go).
// A request that can't be answered in time is refused or dropped before it costs anything.
package batch

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Options are what batching works with; all are required.
type Options struct {
	// Models are those whose requests are joined, by name.
	Models map[string]Limits
	// MaxBytes bounds one batch, as a gRPC message, and what waits for one model.
	MaxBytes int64
	// Infer sends a batch to the member that backend.Prefer names.
	Infer  func(context.Context, *pb.ModelInferRequest, ...grpc.CallOption) (*pb.ModelInferResponse, error)
	Pods   Pods
	Logger *slog.Logger
	// Metrics observes a model.
	Metrics func(model string) Metrics
}

// Limits are a model's settings.
type Limits struct {
	// MaxSize is the most rows of a batch.
	MaxSize int
	// MaxDelay bounds how long an idle member waits for more rows after a batch of several; 0: only by the time of a batch.
	MaxDelay time.Duration
}

// Pods are the members of the backend.
type Pods interface {
	// Idlest is the address that the next call should go to; see backend.Backend.
	Idlest(busy func(address string) bool) (address string, ok bool)
	// Notify calls changed when there may be more members than before.
	Notify(changed func())
}

// Metrics counts what happens to the requests for one model that can be joined. Its methods are called concurrently.
type Metrics interface {
	// Sent counts a batch of so many rows, and why it was sent as it was.
	Sent(reason string, rows int)
	// Waited observes the time of one request in the queue, in seconds.
	Waited(seconds float64)
	// Queued changes what waits.
	Queued(rows, bytes int)
	// Dropped counts a request that left the queue, or never got into it, without reaching a member.
	Dropped(reason string)
}

// Why a batch was sent as it was.
const (
	// SentIdle: a member was free and took all that waited.
	SentIdle = "idle"
	// SentFull: it holds as many rows or bytes as it may.
	SentFull = "full"
	// SentLinger: the member had waited a little for more.
	SentLinger = "linger"
	// SentDeadline: a larger one would have been too late for one of its requests.
	SentDeadline = "deadline"
)

// Why a request was dropped.
const (
	// DroppedFull: rows or bytes of the queue had reached their bound.
	DroppedFull = "full"
	// DroppedOverload: the estimated wait exceeds the request's deadline.
	DroppedOverload = "overload"
	// DroppedExpired: the deadline passed, or would have passed before the answer.
	DroppedExpired = "expired"
	// DroppedCancelled: the caller went away.
	DroppedCancelled = "cancelled"
)

// Batcher joins requests. A nil Batcher joins none.
type Batcher struct {
	models map[string]*model
}

// New makes a batcher; it has nothing to close.
func New(options Options) *Batcher {
	b := &Batcher{models: make(map[string]*model, len(options.Models))}
	for name, limits := range options.Models {
		b.models[name] = newModel(name, limits, options)
	}
	options.Pods.Notify(func() {
		for _, m := range b.models {
			m.wake()
		}
	})
	return b
}

// Joins says whether requests for the model may be joined.
func (b *Batcher) Joins(model string) bool {
	return b != nil && b.models[model] != nil
}

// Do has a request answered as part of a batch, or by alone, which sends it by itself: where it can't be joined with others, where none
// were there to be joined, and where the batch failed by the fault of one. After alone it returns its error and no
// response, since the caller has that. With the error of a batch comes the trailer of the member's answer.
//
// Errors of Do's own are *apierr.Error: RESOURCE_EXHAUSTED where the queue is full or the wait would outlast the deadline,
// DEADLINE_EXCEEDED and CANCELLED where the request left the queue, INTERNAL where a member's answer hasn't the rows asked for.
func (b *Batcher) Do(ctx context.Context, request *pb.ModelInferRequest, alone func(context.Context) error) (*pb.ModelInferResponse, metadata.MD, error) {
	if !b.Joins(request.GetModelName()) {
		return nil, nil, alone(ctx)
	}
	if timeout, ok := timeoutOf(request); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	m := b.models[request.GetModelName()]
	e, ok := m.newEntry(ctx, request)
	if !ok {
		return nil, nil, alone(ctx)
	}
	return m.serve(e, alone) //nolint:contextcheck // a batch outlives the caller that happens to send it
}
