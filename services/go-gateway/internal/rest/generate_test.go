package rest

import (
	"context"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	generatePath = "/v2/models/digits/generate"
	streamPath   = "/v2/models/digits/generate_stream"
	generateBody = `{"id":"7","text_input":"a b","temperature":0.5}`
)

// text is a response with one element of text.
func text(content string) *pb.ModelInferResponse {
	return &pb.ModelInferResponse{
		ModelName: "digits", ModelVersion: "1", Id: "7",
		Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "text_output", Datatype: "BYTES", Shape: []int64{1}}},
		RawOutputContents: [][]byte{append(binary.LittleEndian.AppendUint32(nil, uint32(len(content))), content...)},
	}
}

// event is how a text arrives.
func event(content string) string {
	return `data: {"id":"7","model_name":"digits","model_version":"1","text_output":"` + content + "\"}\n\n"
}

func textModel() *pb.ModelMetadataResponse {
	return &pb.ModelMetadataResponse{Name: "digits", Inputs: []*pb.ModelMetadataResponse_TensorMetadata{{Name: "text_input", Datatype: "BYTES", Shape: []int64{1}}}}
}

type serverStream = pb.GRPCInferenceService_ModelStreamInferServer

// saying is a model that answers with these texts.
func saying(texts ...string) *pod {
	return &pod{describe: textModel, stream: func(_ *pb.ModelInferRequest, stream serverStream) error {
		for _, content := range texts {
			if err := stream.Send(&pb.ModelStreamInferResponse{InferResponse: text(content)}); err != nil {
				return err
			}
		}
		return nil
	}}
}

func TestGenerateMapsFieldsToInputsAndParameters(t *testing.T) {
	asked := make(chan *pb.ModelInferRequest, 1)
	g := newGateway(t, &pod{describe: textModel, infer: func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		asked <- request
		return text("A B"), nil
	}}, nil)
	got := g.call(t, "POST", "/v2/models/digits/versions/1/generate", generateBody)
	if want := `{"id":"7","model_name":"digits","model_version":"1","text_output":"A B"}`; got.status != http.StatusOK || got.body != want {
		t.Fatalf("got %d %s, want 200 %s", got.status, got.body, want)
	}
	request := <-asked
	if request.GetId() != "7" || request.GetModelVersion() != "1" || string(request.GetRawInputContents()[0]) != "\x03\x00\x00\x00a b" || request.GetParameters()["temperature"].GetDoubleParam() != 0.5 {
		t.Errorf("the model was asked %v", request)
	}
}

func TestGenerateOfAModelThatStreamsTakesExactlyOneResponse(t *testing.T) {
	const want = `{"id":"7","model_name":"digits","model_version":"1","text_output":"a"}`
	if got := newGateway(t, saying("a"), nil).call(t, "POST", generatePath, generateBody); got.status != http.StatusOK || got.body != want {
		t.Errorf("got %d %s, want 200 %s", got.status, got.body, want)
	}
	for _, texts := range [][]string{{}, {"a", "b"}} {
		got := newGateway(t, saying(texts...), nil).call(t, "POST", generatePath, generateBody)
		if code, message, _ := got.failure(t); got.status != http.StatusBadRequest || code != "INVALID_REQUEST" || !strings.Contains(message, "call generate_stream") {
			t.Errorf("%d responses: got %d %s %q", len(texts), got.status, code, message)
		}
	}
}

func TestStreamIsAnEventForEachResponse(t *testing.T) {
	g := newGateway(t, saying("a", "b\\n", ""), nil)
	got := g.call(t, "POST", streamPath, generateBody, "Accept-Encoding: gzip")
	if want := event("a") + event(`b\\n`) + event(""); got.status != http.StatusOK || got.body != want {
		t.Errorf("got %d %q\nwant 200 %q", got.status, got.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Content-Encoding": "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	if seen := <-g.observed; seen != (observation{"/v2/models/{model}/generate_stream", "POST", http.StatusOK, ""}) {
		t.Errorf("observed %+v", seen)
	}
	if g.open != 0 || g.events[EventResponse] != 3 {
		t.Errorf("%d streams open after %v events", g.open, g.events)
	}
}

func TestStreamOfAModelThatAnswersOnceIsOneEvent(t *testing.T) {
	g := newGateway(t, &pod{describe: textModel, infer: func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return text("a"), nil
	}}, nil)
	if got := g.call(t, "POST", streamPath, generateBody); got.status != http.StatusOK || got.body != event("a") {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestStreamWithoutResponsesIsEmpty(t *testing.T) {
	silent := saying()
	for name, b := range map[string]*pod{"ended": silent, "ended by a mark": {describe: textModel, stream: func(_ *pb.ModelInferRequest, stream serverStream) error {
		return stream.Send(&pb.ModelStreamInferResponse{InferResponse: &pb.ModelInferResponse{
			Parameters: map[string]*pb.InferParameter{"triton_final_response": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}}},
		}})
	}}} {
		got := newGateway(t, b, nil).call(t, "POST", streamPath, generateBody)
		if got.status != http.StatusOK || got.body != "" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
			t.Errorf("%s: got %d %q %v", name, got.status, got.body, got.header)
		}
	}
}

// failingAfter is a model that fails after these texts, as the inference server does where it is asked for statuses.
func failingAfter(t *testing.T, texts ...string) *pod {
	t.Helper()
	b := saying(texts...)
	say := b.stream
	b.stream = func(request *pb.ModelInferRequest, stream serverStream) error {
		if md, _ := metadata.FromIncomingContext(stream.Context()); !slices.Equal(md.Get("triton_grpc_error"), []string{"true"}) {
			t.Errorf("the backend isn't asked for a status: %v", md)
		}
		if err := say(request, stream); err != nil {
			return err
		}
		stream.SetTrailer(metadata.Pairs(apierr.CodeTrailer, apierr.ModelFailed))
		return apierr.New(apierr.ModelFailed, "because").GRPCStatus().Err()
	}
	return b
}

func TestErrorBeforeTheFirstResponseKeepsItsStatus(t *testing.T) {
	for name, test := range map[string]struct {
		b            *pod
		path, body   string
		status       int
		code, prefix string
	}{
		"of the model":           {failingAfter(t), streamPath, generateBody, http.StatusInternalServerError, "MODEL_FAILED", "because"},
		"of the model, once":     {failingAfter(t), generatePath, generateBody, http.StatusInternalServerError, "MODEL_FAILED", "because"},
		"of an unknown model":    {saying(), "/v2/models/none/generate_stream", generateBody, http.StatusNotFound, "MODEL_NOT_FOUND", "no model"},
		"of a body":              {saying(), streamPath, `{`, http.StatusBadRequest, "INVALID_REQUEST", "the body is not valid JSON"},
		"of a tensor":            {saying(), streamPath, `{"text_input":1}`, http.StatusBadRequest, "INVALID_TENSOR", `input "text_input": value must be a string`},
		"of a parameter":         {saying(), streamPath, `{"other":[]}`, http.StatusBadRequest, "INVALID_REQUEST", "other must be a boolean"},
		"of a result":            {&pod{infer: answering("BF16", 2)}, streamPath, `{"x":[1]}`, http.StatusBadRequest, "UNREPRESENTABLE", `output "y"`},
		"in a backend's own way": {&pod{describe: textModel, stream: sayingError}, streamPath, generateBody, http.StatusInternalServerError, "MODEL_FAILED", "told in a message"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, test.b, nil)
			got := g.call(t, "POST", test.path, test.body)
			if code, message, _ := got.failure(t); got.status != test.status || code != test.code || !strings.HasPrefix(message, test.prefix) {
				t.Errorf("got %d %s %q, want %d %s", got.status, code, message, test.status, test.code)
			}
		})
	}
}

func sayingError(_ *pb.ModelInferRequest, stream serverStream) error {
	return stream.Send(&pb.ModelStreamInferResponse{ErrorMessage: "told in a message"})
}

func TestErrorAfterTheFirstResponseIsTheLastEvent(t *testing.T) {
	g := newGateway(t, failingAfter(t, "a"), nil)
	got := g.call(t, "POST", streamPath, generateBody)
	if want := event("a") + `data: {"error":"because","code":"MODEL_FAILED","traceId":""}` + "\n\n"; got.status != http.StatusOK || got.body != want {
		t.Errorf("got %d %q\nwant 200 %q", got.status, got.body, want)
	}
	if seen := <-g.observed; seen.code != "MODEL_FAILED" || g.events[EventError] != 1 {
		t.Errorf("observed %+v and %v", seen, g.events)
	}
	if lines := g.logged(t); len(lines) != 1 || lines[0]["code"] != "MODEL_FAILED" {
		t.Errorf("logged %v, want one line", lines)
	}
}

// A model that is loaded anew with other inputs is noticed by the first request that it refuses.
func TestModelThatWasLoadedAnewIsNoticed(t *testing.T) {
	var reloaded atomic.Bool
	var lookups atomic.Int64
	b := &pod{
		describe: func() *pb.ModelMetadataResponse {
			lookups.Add(1)
			model := textModel()
			if reloaded.Load() {
				model.Inputs[0].Name = "prompt"
			}
			return model
		},
		infer: func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			name := "text_input"
			if reloaded.Load() {
				name = "prompt"
			}
			if inputs := request.GetInputs(); len(inputs) != 1 || inputs[0].GetName() != name {
				return nil, failed(ctx, apierr.InvalidRequest, "input %q is missing", name)
			}
			return text(name), nil
		},
	}
	g := newGateway(t, b, nil)
	for range 3 {
		if got := g.call(t, "POST", generatePath, `{"text_input":"a"}`); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	if got := lookups.Load(); got != 1 {
		t.Errorf("the model was described %d times for three calls, want once", got)
	}
	reloaded.Store(true)
	if got := g.call(t, "POST", generatePath, `{"prompt":"a"}`); got.status != http.StatusOK {
		t.Errorf("after the reload: %d %s", got.status, got.body)
	}
	got := g.call(t, "POST", generatePath, `{"text_input":"a"}`)
	if code, message, _ := got.failure(t); code != "INVALID_REQUEST" || message != `input "prompt" is missing` {
		t.Errorf("a request for the old model: %s %q", code, message)
	}
}
