package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// pod is an inference server on the real gRPC stack. Its one model, digits, answers its input x as the output y;
// infer, if set, answers instead; ready, if set, is what the answer whether the server is ready waits for.
type pod struct {
	pb.UnimplementedGRPCInferenceServiceServer

	notReady bool
	ready    func(context.Context)
	infer    func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)
	// describe, if set, says what the model is; a model with a stream is decoupled.
	describe func() *pb.ModelMetadataResponse
	stream   func(*pb.ModelInferRequest, pb.GRPCInferenceService_ModelStreamInferServer) error
}

func (b *pod) ModelStreamInfer(stream pb.GRPCInferenceService_ModelStreamInferServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	return b.stream(request, stream)
}

func (b *pod) ServerReady(ctx context.Context, _ *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	if b.ready != nil {
		b.ready(ctx)
	}
	return &pb.ServerReadyResponse{Ready: !b.notReady}, nil
}

func (b *pod) ModelReady(_ context.Context, request *pb.ModelReadyRequest) (*pb.ModelReadyResponse, error) {
	return &pb.ModelReadyResponse{Ready: request.GetName() == "digits" && !b.notReady}, nil
}

func (b *pod) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{Name: "polyglot-inference", Version: "0.1.0"}, nil
}

func (b *pod) ModelMetadata(ctx context.Context, request *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	if err := served(ctx, request.GetName(), request.GetVersion()); err != nil {
		return nil, err
	}
	if b.describe != nil {
		return b.describe(), nil
	}
	return &pb.ModelMetadataResponse{
		Name: request.GetName(), Versions: []string{"1"}, Platform: "onnx",
		Inputs:  []*pb.ModelMetadataResponse_TensorMetadata{{Name: "x", Datatype: "FP32", Shape: []int64{-1}}},
		Outputs: []*pb.ModelMetadataResponse_TensorMetadata{{Name: "y", Datatype: "FP32", Shape: []int64{-1}}},
	}, nil
}

func (b *pod) ModelInfer(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	if err := served(ctx, request.GetModelName(), request.GetModelVersion()); err != nil {
		return nil, err
	}
	if b.infer != nil {
		return b.infer(ctx, request)
	}
	x := request.GetInputs()[0]
	return &pb.ModelInferResponse{
		ModelName: request.GetModelName(), ModelVersion: "1", Id: request.GetId(),
		Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "y", Datatype: x.GetDatatype(), Shape: x.GetShape()}},
		RawOutputContents: request.GetRawInputContents(),
	}, nil
}

func served(ctx context.Context, name, version string) error {
	if name == "digits" && (version == "" || version == "1") {
		return nil
	}
	return failed(ctx, apierr.ModelNotFound, "no model %q in version %q", name, version)
}

// failed is an error as the inference server sends it, with its code in the trailer.
func failed(ctx context.Context, code, format string, args ...any) error {
	failure := apierr.New(code, format, args...)
	if err := grpc.SetTrailer(ctx, metadata.Pairs(apierr.CodeTrailer, failure.Code)); err != nil {
		return err
	}
	return failure.GRPCStatus().Err()
}

// observation is what Metrics was told about one call.
type observation struct {
	route, method string
	status        int
	code          string
}

// gateway is the REST handler under test on a real listener, before a real gRPC server.
type gateway struct {
	*httptest.Server

	mutex    sync.Mutex
	observed chan observation
	inFlight int
	open     int
	events   map[string]int
	log      bytes.Buffer
}

func (g *gateway) Observe(route, method string, status int, code string, seconds float64) {
	if seconds <= 0 {
		panic("a call took no time")
	}
	g.observed <- observation{route, method, status, code}
}

func (g *gateway) InFlight(delta int) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.inFlight += delta
}

func (g *gateway) Open(delta int) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.open += delta
}

func (g *gateway) FirstResponse(seconds float64) {
	if seconds <= 0 {
		panic("a response took no time")
	}
}

func (g *gateway) Event(kind string) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.events[kind]++
}

// Write takes the log's lines.
func (g *gateway) Write(line []byte) (int, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.log.Write(line)
}

// onePod stands for a backend that needs no address: every call goes to it.
type onePod struct{}

func (onePod) Members() []string        { return nil }
func (onePod) Status() []backend.Status { return nil }

// newGateway starts a gateway in front of b, whose options change may alter.
func newGateway(t *testing.T, b *pod, change func(*Options)) *gateway {
	t.Helper()
	g := &gateway{observed: make(chan observation, 100), events: map[string]int{}}
	client := pb.NewGRPCInferenceServiceClient(connect(t, b))
	options := Options{
		Client: client,
		Administration: administration.New(administration.Options{
			Client: client, Pods: onePod{}, SharedMemory: true, Logger: slog.New(slog.DiscardHandler),
		}),
		MaxRequestBytes: 1 << 16,
		DefaultTimeout:  time.Minute,
		Streaming: Streaming{
			FirstResponse: time.Minute, BetweenResponses: time.Minute, Total: time.Hour,
			WriteTimeout: time.Minute, Heartbeat: time.Minute, Metrics: g,
		},
		Logger:  slog.New(slog.NewJSONHandler(g, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: g,
	}
	if change != nil {
		change(&options)
	}
	g.Server = httptest.NewServer(New(options))
	t.Cleanup(g.Close)
	return g
}

// connect serves b and returns a connection to it; without b, one that nobody answers.
func connect(t *testing.T, b *pod) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	if b == nil {
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		pb.RegisterGRPCInferenceServiceServer(server, b)
		stopped := make(chan error, 1)
		go func() { stopped <- server.Serve(listener) }()
		t.Cleanup(func() {
			server.Stop()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
	connection, err := grpc.NewClient("passthrough:backend",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return connection
}

// answered is what a caller gets.
type answered struct {
	status int
	header http.Header
	body   string
}

// failure is the error body, which must have exactly its three fields.
func (a answered) failure(t *testing.T) (code, message, traceID string) {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		t.Fatalf("%v: %q", err, a.body)
	}
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	if slices.Sort(keys); !slices.Equal(keys, []string{"code", "error", "traceId"}) || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("not an error body: %s %q", a.header.Get("Content-Type"), a.body)
	}
	return fields["code"], fields["error"], fields["traceId"]
}

// call sends a request with headers given as "Name: value".
func (g *gateway) call(t *testing.T, method, path, body string, headers ...string) answered {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return g.send(t, request, headers...)
}

func (g *gateway) send(t *testing.T, request *http.Request, headers ...string) answered {
	t.Helper()
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	response, err := g.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{status: response.StatusCode, header: response.Header, body: string(text)}
}

// logged are the lines of the log, without what changes from run to run.
func (g *gateway) logged(t *testing.T) []map[string]any {
	t.Helper()
	g.mutex.Lock()
	defer g.mutex.Unlock()
	var lines []map[string]any
	for decoder := json.NewDecoder(bytes.NewReader(g.log.Bytes())); decoder.More(); {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		delete(line, "time")
		delete(line, "elapsed")
		lines = append(lines, line)
	}
	return lines
}

const (
	inferPath = "/v2/models/digits/infer"
	inferBody = `{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[0.5,1]}]}`
)
