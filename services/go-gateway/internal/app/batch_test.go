package app

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func batched(settings *config.Config) {
	settings.Models = []config.Model{{Name: "m", Batching: &config.Batching{MaxSize: 32}}}
}

// gate is a model that echoes; the request with the id "first" waits until the gate is open.
type gate struct {
	pod     *backendtest.Pod
	arrived chan struct{}
	open    chan struct{}
	rows    sync.Map // how many calls had so many rows
}

func newGate() *gate {
	return &gate{arrived: make(chan struct{}, 1), open: make(chan struct{})}
}

func (g *gate) infer(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	if request.GetId() == "first" {
		g.arrived <- struct{}{}
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	calls, _ := g.rows.LoadOrStore(request.GetInputs()[0].GetShape()[0], new(atomic.Int64))
	calls.(*atomic.Int64).Add(1)
	return g.pod.Echo(request), nil
}

func (g *gate) calls(rows int64) int64 {
	if calls, ok := g.rows.Load(rows); ok {
		return calls.(*atomic.Int64).Load()
	}
	return 0
}

func numbers(id string, typed bool, values ...float32) *pb.ModelInferRequest {
	request := &pb.ModelInferRequest{ModelName: "m", Id: id, Inputs: []*pb.ModelInferRequest_InferInputTensor{
		{Name: "x", Datatype: "FP32", Shape: []int64{int64(len(values))}},
	}}
	if typed {
		request.Inputs[0].Contents = &pb.InferTensorContents{Fp32Contents: values}
		return request
	}
	var raw []byte
	for _, value := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(value))
	}
	request.RawInputContents = [][]byte{raw}
	return request
}

func (r *running) postNumbers(t *testing.T, header http.Header, id string, value float32) string {
	t.Helper()
	body := fmt.Sprintf(`{"id":%q,"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[%v]}]}`, id, value)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.rest+"/v2/models/m/infer", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	text, err := io.ReadAll(response.Body)
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// queued waits until so many rows wait for a batch.
func (r *running) queued(t *testing.T, rows int) {
	t.Helper()
	poll(t, func() bool { return r.metric(t, `polyglot_gateway_batch_queued_rows{model="m"}`) == strconv.Itoa(rows) })
}

func (r *running) metric(t *testing.T, series string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestBatch_rest_and_grpc_callers_share_one_call_and_get_their_own_form(t *testing.T) {
	model := newGate()
	model.pod = backendtest.Start(t, func(p *backendtest.Pod) { p.Infer = model.infer }, "127.0.0.1")[0]
	g := start(t, model.pod, batched)
	var callers sync.WaitGroup
	callers.Go(func() {
		if _, err := g.client.ModelInfer(t.Context(), numbers("first", false, 0)); err != nil {
			t.Error(err)
		}
	})
	<-model.arrived
	callers.Go(func() {
		want := `{"model_name":"127.0.0.1","id":"json","outputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1.5]}]}`
		if got := g.postNumbers(t, nil, "json", 1.5); got != want {
			t.Errorf("REST got %s, want %s", got, want)
		}
	})
	callers.Go(func() {
		got, err := g.client.ModelInfer(t.Context(), numbers("raw", false, 2, 3))
		want := numbers("raw", false, 2, 3)
		if err != nil || got.GetId() != "raw" || string(got.GetRawOutputContents()[0]) != string(want.GetRawInputContents()[0]) || got.GetOutputs()[0].GetContents() != nil {
			t.Errorf("the raw caller got %v, %v", got, err)
		}
	})
	callers.Go(func() {
		got, err := g.client.ModelInfer(t.Context(), numbers("typed", true, 4))
		if err != nil || got.GetId() != "typed" || len(got.GetRawOutputContents()) > 0 || got.GetOutputs()[0].GetContents().GetFp32Contents()[0] != 4 {
			t.Errorf("the typed caller got %v, %v", got, err)
		}
	})
	g.queued(t, 4)
	close(model.open)
	callers.Wait()
	if model.calls(1) != 1 || model.calls(4) != 1 {
		t.Errorf("%d calls of 1 row, %d of 4", model.calls(1), model.calls(4))
	}
	for series, want := range map[string]string{
		`polyglot_gateway_batch_size_rows_sum{model="m"}`:         "5",
		`polyglot_gateway_batch_size_rows_count{model="m"}`:       "2",
		`polyglot_gateway_batches_total{model="m",reason="idle"}`: "2",
		`polyglot_gateway_batch_queue_seconds_count{model="m"}`:   "4",
		`polyglot_gateway_batch_queued_bytes{model="m"}`:          "0",
	} {
		if got := g.metric(t, series); got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}
}

func TestBatch_of_a_pod_that_drains_runs_on_another(t *testing.T) {
	model, other := newGate(), newGate()
	folder := t.TempDir()
	var refused atomic.Int64
	draining := backendtest.StartOnSocket(t, func(p *backendtest.Pod) {
		other.pod = p
		p.Infer = func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			if request.GetId() == "first" {
				return other.infer(ctx, request)
			}
			refused.Add(1)
			_ = grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, apierr.ServerDraining))
			return nil, grpcstatus.Error(codes.Unavailable, "draining")
		}
	}, filepath.Join(folder, "draining.sock"))
	model.pod = backendtest.StartOnSocket(t, func(p *backendtest.Pod) { p.Infer = model.infer }, filepath.Join(folder, "healthy.sock"))
	g := start(t, draining, func(settings *config.Config) {
		batched(settings)
		settings.Backend = config.Backend{Sockets: []string{draining.IP, model.pod.IP}}
	})
	poll(t, func() bool { return len(g.backend.Members()) == 2 })
	var callers sync.WaitGroup
	for range 2 { // one for each member
		callers.Go(func() {
			if _, err := g.client.ModelInfer(t.Context(), numbers("first", false, 0)); err != nil {
				t.Error(err)
			}
		})
	}
	<-model.arrived
	<-other.arrived
	var joined sync.WaitGroup
	for value := range 4 {
		joined.Go(func() {
			got, err := g.client.ModelInfer(t.Context(), numbers("", true, float32(value)))
			if err != nil || got.GetOutputs()[0].GetContents().GetFp32Contents()[0] != float32(value) {
				t.Errorf("caller %d got %v, %v", value, got, err)
			}
		})
	}
	g.queued(t, 4)
	close(other.open) // the draining pod is free, and gets the batch
	joined.Wait()
	if refused.Load() != 1 || model.calls(4) != 1 {
		t.Errorf("the draining pod was asked %d times, the other got %d batches", refused.Load(), model.calls(4))
	}
	close(model.open)
	callers.Wait()
}

func TestTrace_a_batch_is_a_child_of_one_request_and_linked_to_the_others(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	model := newGate()
	model.pod = backendtest.Start(t, func(p *backendtest.Pod) { p.Infer = model.infer }, "127.0.0.1")[0]
	g := start(t, model.pod, batched)
	spans.Reset()
	var callers sync.WaitGroup
	callers.Go(func() { g.postNumbers(t, nil, "first", 0) })
	<-model.arrived
	unsampled := http.Header{"Traceparent": {strings.TrimSuffix(traceparent, "1") + "0"}}
	for index, header := range []http.Header{unsampled, {"Traceparent": {traceparent}}, {"Traceparent": {traceparent}}} {
		callers.Go(func() { g.postNumbers(t, header, "", 1) })
		g.queued(t, index+1)
	}
	close(model.open)
	callers.Wait()

	const total = 2 + 2 + 2 // the first's server and client spans; two sampled servers'; the batch's and its client's
	poll(t, func() bool { return len(spans.GetSpans()) == total })
	var batch, call tracetest.SpanStub
	servers := map[string]tracetest.SpanStub{}
	for _, span := range spans.GetSpans() {
		switch {
		case span.Name == "batch m":
			batch = span
		case span.Parent.SpanID().String() == callersSpan:
			servers[span.SpanContext.SpanID().String()] = span
		}
	}
	for _, span := range spans.GetSpans() {
		if span.Parent.SpanID() == batch.SpanContext.SpanID() && span.Name != batch.Name {
			call = span
		}
	}
	parent, ok := servers[batch.Parent.SpanID().String()]
	if !ok || len(servers) != 2 {
		t.Fatalf("the batch's parent %v is none of the sampled requests %v", batch.Parent.SpanID(), servers)
	}
	if len(batch.Links) != 1 || batch.Links[0].SpanContext.SpanID() == parent.SpanContext.SpanID() {
		t.Errorf("the batch has links %v", batch.Links)
	}
	if _, linked := servers[batch.Links[0].SpanContext.SpanID().String()]; !linked {
		t.Errorf("the batch is linked to %v, none of the requests", batch.Links[0].SpanContext.SpanID())
	}
	if !call.SpanContext.IsValid() {
		t.Error("the call to the pod is no child of the batch")
	}
	if got := attributeOf(batch, "polyglot.batch.size"); got != "3" {
		t.Errorf("the batch's size is %q", got)
	}
	for _, server := range servers {
		if attributeOf(server, "polyglot.batch.queue_seconds") == "" {
			t.Error("a request's span has no queue time")
		}
	}
}

func attributeOf(span tracetest.SpanStub, key string) string {
	for _, attribute := range span.Attributes {
		if string(attribute.Key) == key {
			return attribute.Value.String()
		}
	}
	return ""
}
