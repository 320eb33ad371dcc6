package batch_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// members are the backend under a simulated clock: each takes any number of calls, and notes how many it has.
type members struct {
	mu      sync.Mutex
	calls   map[string]int // under way, by address
	changed func()
}

func newMembers(addresses ...string) *members {
	m := &members{calls: map[string]int{}}
	for _, address := range addresses {
		m.calls[address] = 0
	}
	return m
}

// Idlest implements batch.Pods.
func (m *members) Idlest(busy func(string) bool) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(m.calls)) {
		if !busy(address) {
			return address, true
		}
	}
	return "", len(m.calls) == 0 && !busy("")
}

// Notify implements batch.Pods.
func (m *members) Notify(changed func()) { m.changed = changed }

func (m *members) add(address string) {
	m.mu.Lock()
	m.calls[address] = 0
	m.mu.Unlock()
	m.changed()
}

func (m *members) remove(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.calls, address)
}

// counts are what the batcher reported.
type counts struct {
	mu          sync.Mutex
	sent        map[string]int
	dropped     map[string]int
	sizes       []int
	rows, bytes int
}

// Sent implements batch.Metrics.
func (c *counts) Sent(reason string, rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[reason]++
	c.sizes = append(c.sizes, rows)
}

// Waited implements batch.Metrics.
func (c *counts) Waited(seconds float64) {
	if seconds < 0 {
		panic("a request waited less than no time")
	}
}

// Queued implements batch.Metrics.
func (c *counts) Queued(rows, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows, c.bytes = c.rows+rows, c.bytes+bytes
}

// Dropped implements batch.Metrics.
func (c *counts) Dropped(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped[reason]++
}

// fixture is a batcher of the model "m" before members that answer as infer says.
type fixture struct {
	client  batch.Client
	members *members
	counts  *counts
}

type infer = func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)

// inference is the client of the members: only ModelInfer is called.
type inference struct {
	pb.GRPCInferenceServiceClient
	infer infer
}

// ModelInfer sends an *apierr.Error as an inference server does, with its code in the trailer.
func (i inference) ModelInfer(ctx context.Context, request *pb.ModelInferRequest, options ...grpc.CallOption) (*pb.ModelInferResponse, error) {
	response, err := i.infer(ctx, request)
	failure, ok := errors.AsType[*apierr.Error](err)
	if !ok {
		return response, err
	}
	for _, option := range options {
		if trailer, ok := option.(grpc.TrailerCallOption); ok {
			*trailer.TrailerAddr = metadata.Pairs(apierr.CodeTrailer, failure.Code)
		}
	}
	return response, failure.Status("").Err()
}

func start(t *testing.T, limits batch.Limits, pods *members, answer infer) fixture {
	t.Helper()
	f := fixture{members: pods, counts: &counts{sent: map[string]int{}, dropped: map[string]int{}}}
	f.client.GRPCInferenceServiceClient = inference{infer: answer}
	f.client.Batcher = batch.New(batch.Options{
		Models: map[string]batch.Limits{"m": limits}, MaxBytes: 1 << 20, Infer: f.client.GRPCInferenceServiceClient.ModelInfer, Pods: pods,
		Logger: slog.New(slog.DiscardHandler), Metrics: func(string) batch.Metrics { return f.counts },
	})
	return f
}

// taking is a model that echoes after a time.
func taking(base, perRow time.Duration) infer {
	return func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		select {
		case <-time.After(base + time.Duration(rowsOf(request))*perRow):
			return echo(request), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func rowsOf(request *pb.ModelInferRequest) int { return int(request.GetInputs()[0].GetShape()[0]) }

func echo(request *pb.ModelInferRequest) *pb.ModelInferResponse {
	response := &pb.ModelInferResponse{ModelName: request.GetModelName(), ModelVersion: "1", Id: request.GetId(), RawOutputContents: request.GetRawInputContents()}
	for _, input := range request.GetInputs() {
		response.Outputs = append(response.Outputs, &pb.ModelInferResponse_InferOutputTensor{
			Name: input.GetName(), Datatype: input.GetDatatype(), Shape: input.GetShape(),
		})
	}
	return response
}

// request holds these numbers, one a row.
func request(id string, values ...uint32) *pb.ModelInferRequest {
	var raw []byte
	for _, value := range values {
		raw = binary.LittleEndian.AppendUint32(raw, value)
	}
	return &pb.ModelInferRequest{
		ModelName: "m", Id: id, RawInputContents: [][]byte{raw},
		Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "UINT32", Shape: []int64{int64(len(values)), 1}}},
	}
}

func valuesIn(raw []byte) []uint32 {
	values := make([]uint32, len(raw)/4)
	for index := range values {
		values[index] = binary.LittleEndian.Uint32(raw[4*index:])
	}
	return values
}

// check says what is wrong with an answer to request(id, values...).
func check(response *pb.ModelInferResponse, id string, values ...uint32) error {
	if response.GetId() != id || response.GetModelName() != "m" || len(response.GetOutputs()) != 1 || len(response.GetRawOutputContents()) != 1 {
		return fmt.Errorf("%q was answered %v", id, response)
	}
	if got := response.GetOutputs()[0].GetShape(); !slices.Equal(got, []int64{int64(len(values)), 1}) {
		return fmt.Errorf("%q has shape %v", id, got)
	}
	if got := valuesIn(response.GetRawOutputContents()[0]); !slices.Equal(got, values) {
		return fmt.Errorf("%q got rows %v, want %v", id, got, values)
	}
	return nil
}

// outcome is what one caller got, and when.
type outcome struct {
	response *pb.ModelInferResponse
	err      error
	after    time.Duration
}

// call sends in the background. The caller has timeout, 0 for none.
func (f fixture) call(ctx context.Context, timeout time.Duration, request *pb.ModelInferRequest) <-chan outcome {
	answered := make(chan outcome, 1)
	begin := time.Now()
	go func() {
		ctx, cancel := ctx, context.CancelFunc(func() {})
		if timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, timeout)
		}
		defer cancel()
		response, err := f.client.ModelInfer(ctx, request)
		answered <- outcome{response, err, time.Since(begin)}
	}()
	synctest.Wait() // it is sent, or waits
	return answered
}

// all sends a request of one row for each value at once, and returns what they got.
func (f fixture) all(t *testing.T, values ...uint32) []outcome {
	t.Helper()
	pending := make([]<-chan outcome, len(values))
	for index, value := range values {
		pending[index] = f.call(t.Context(), 0, request(strconv.Itoa(int(value)), value))
	}
	outcomes := make([]outcome, len(values))
	for index := range pending {
		outcomes[index] = <-pending[index]
	}
	return outcomes
}

// preferred is the member that the call was sent to, "" for a call outside of the batches.
func preferred(ctx context.Context) string { return backend.Preferred(ctx) }
