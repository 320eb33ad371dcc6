package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestEveryRouteAnswers(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	const model = `{"name":"digits","versions":["1"],"platform":"onnx","inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]}`
	const result = `{"model_name":"digits","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[0.5,1]}]}`
	for _, test := range []struct{ method, path, route, body, want string }{
		{"GET", "/v2", "/v2", "", `{"name":"polyglot-inference","version":"0.1.0","extensions":["binary_tensor_data","generate"]}`},
		{"GET", "/v2/", "/v2/{$}", "", `{"name":"polyglot-inference","version":"0.1.0","extensions":["binary_tensor_data","generate"]}`},
		{"GET", "/v2/health/live", "/v2/health/live", "", `{"live":true}`},
		{"GET", "/v2/health/ready", "/v2/health/ready", "", `{"ready":true}`},
		{"GET", "/v2/models/digits", "/v2/models/{model}", "", model},
		{"GET", "/v2/models/digits/versions/1", "/v2/models/{model}/versions/{version}", "", model},
		{"GET", "/v2/models/digits/ready", "/v2/models/{model}/ready", "", `{"name":"digits","ready":true}`},
		{"GET", "/v2/models/digits/versions/1/ready", "/v2/models/{model}/versions/{version}/ready", "", `{"name":"digits","ready":true}`},
		{"POST", inferPath, "/v2/models/{model}/infer", inferBody, result},
		{"POST", "/v2/models/digits/versions/1/infer", "/v2/models/{model}/versions/{version}/infer", inferBody, result},
		{"POST", "/v2/models/%64igits/infer", "/v2/models/{model}/infer", inferBody, result},
		{"HEAD", "/v2/health/live", "/v2/health/live", "", ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			got := g.call(t, test.method, test.path, test.body)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" || got.body != test.want {
				t.Errorf("got %d %s %s\nwant 200 application/json %s", got.status, got.header.Get("Content-Type"), got.body, test.want)
			}
			if seen := <-g.observed; seen != (observation{test.route, test.method, http.StatusOK, ""}) {
				t.Errorf("observed %+v", seen)
			}
		})
	}
	if lines := g.logged(t); len(lines) > 0 {
		t.Errorf("calls that succeed are logged: %v", lines)
	}
}

func TestEveryFailureHasItsStatusAndBody(t *testing.T) {
	for name, test := range map[string]struct {
		method, path, body string
		infer              func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)
		status             int
		code, message      string
	}{
		"an unknown path":               {method: "GET", path: "/v3", status: 404, code: "ROUTE_NOT_FOUND", message: "no such path: /v3; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"an unknown path of a model":    {method: "GET", path: "/v2/models/digits/weights", status: 404, code: "ROUTE_NOT_FOUND", message: "no such path: /v2/models/digits/weights; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"POST to statistics":            {method: "POST", path: "/v2/models/stats", status: 405, code: "METHOD_NOT_ALLOWED", message: "/v2/models/stats takes GET and HEAD, not POST"},
		"an empty model name":           {method: "POST", path: "/v2/models//infer", body: inferBody, status: 404, code: "ROUTE_NOT_FOUND", message: "no such path: /v2/models//infer; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"a path with dots":              {method: "GET", path: "/v2/./health/live", status: 404, code: "ROUTE_NOT_FOUND", message: "no such path: /v2/./health/live; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"the root":                      {method: "GET", path: "/", status: 404, code: "ROUTE_NOT_FOUND", message: "no such path: /; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"a name with slashes":           {method: "GET", path: "/v2/models/a%2F%2Fb", status: 404, code: "MODEL_NOT_FOUND", message: `no model "a//b" in version ""`},
		"GET to infer":                  {method: "GET", path: inferPath, status: 405, code: "METHOD_NOT_ALLOWED", message: "/v2/models/digits/infer takes POST, not GET"},
		"DELETE of a model":             {method: "DELETE", path: "/v2/models/digits", status: 405, code: "METHOD_NOT_ALLOWED", message: "/v2/models/digits takes GET and HEAD, not DELETE"},
		"a body that is no JSON":        {method: "POST", path: inferPath, body: "x", status: 400, code: "INVALID_REQUEST", message: "the body is not valid JSON: byte 0: found 'x' where a value should be"},
		"a tensor that is wrong":        {method: "POST", path: inferPath, body: strings.Replace(inferBody, "[2]", "[3]", 1), status: 400, code: "INVALID_TENSOR", message: `input "x": data must hold 3, as the shape says, but holds 2`},
		"a model that is unknown":       {method: "POST", path: "/v2/models/none/infer", body: inferBody, status: 404, code: "MODEL_NOT_FOUND", message: `no model "none" in version ""`},
		"a version that is unknown":     {method: "GET", path: "/v2/models/digits/versions/2", status: 404, code: "MODEL_NOT_FOUND", message: `no model "digits" in version "2"`},
		"an unknown model's readiness":  {method: "GET", path: "/v2/models/none/ready", status: 503, code: "MODEL_NOT_READY", message: `model "none" is unknown or still loading`},
		"a name that is no text":        {method: "GET", path: "/v2/models/%ff", status: 400, code: "INVALID_REQUEST", message: "the model's name in the path must be UTF-8 text"},
		"another's readiness":           {method: "GET", path: "/v2/models/%ff/ready", status: 400, code: "INVALID_REQUEST", message: "the model's name in the path must be UTF-8 text"},
		"a version that is no text":     {method: "POST", path: "/v2/models/digits/versions/%ff/infer", body: inferBody, status: 400, code: "INVALID_REQUEST", message: `the model's version in the path is "\xff": must be digits, such as 1`},
		"a version that is no number":   {method: "GET", path: "/v2/models/digits/versions/v1", status: 400, code: "INVALID_REQUEST", message: `the model's version in the path is "v1": must be digits, such as 1`},
		"a model that fails":            {method: "POST", path: inferPath, body: inferBody, infer: failing("MODEL_FAILED"), status: 500, code: "MODEL_FAILED", message: "because"},
		"a backend that drains":         {method: "POST", path: inferPath, body: inferBody, infer: failing("SERVER_DRAINING"), status: 503, code: "SERVER_DRAINING", message: "because"},
		"an answer above the limit":     {method: "POST", path: inferPath, body: inferBody, infer: failing("MESSAGE_TOO_LARGE"), status: 413, code: "MESSAGE_TOO_LARGE", message: "because"},
		"a call the backend lacks":      {method: "POST", path: inferPath, body: inferBody, infer: failing("UNSUPPORTED"), status: 501, code: "UNSUPPORTED", message: "because"},
		"a refusal by the mesh":         {method: "POST", path: inferPath, body: inferBody, infer: refusing(codes.PermissionDenied), status: 403, code: "PERMISSION_DENIED", message: "because"},
		"a quota":                       {method: "POST", path: inferPath, body: inferBody, infer: refusing(codes.ResourceExhausted), status: 429, code: "RESOURCE_EXHAUSTED", message: "because"},
		"a result JSON cannot say":      {method: "POST", path: inferPath, body: inferBody, infer: answering("BF16", 2), status: 400, code: "UNREPRESENTABLE", message: `output "y": datatype BF16 has no JSON form; ask for binary data or call by gRPC`},
		"a result that is inconsistent": {method: "POST", path: inferPath, body: inferBody, infer: answering("FP32", 3), status: 500, code: "INTERNAL", message: `the backend's answer contradicts itself: output "y": shape [1] needs 4 bytes of FP32, found 3`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, &pod{infer: test.infer}, nil)
			got := g.call(t, test.method, test.path, test.body)
			code, message, traceID := got.failure(t)
			if got.status != test.status || code != test.code || message != test.message || traceID != "" {
				t.Errorf("got %d %s %q %q\nwant %d %s %q", got.status, code, message, traceID, test.status, test.code, test.message)
			}
			if seen := <-g.observed; seen.status != test.status || seen.code != test.code || seen.method != test.method {
				t.Errorf("observed %+v", seen)
			}
			if lines := g.logged(t); len(lines) != 1 || lines[0]["code"] != test.code {
				t.Errorf("logged %v, want one line", lines)
			}
		})
	}
}

func failing(code string) func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	return func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return nil, failed(ctx, code, "because")
	}
}

func refusing(code codes.Code) func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	return func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return nil, status.Error(code, "because")
	}
}

func answering(datatype string, size int) func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	return func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return &pb.ModelInferResponse{
			Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "y", Datatype: datatype, Shape: []int64{1}}},
			RawOutputContents: [][]byte{make([]byte, size)},
		}, nil
	}
}

func TestWrongMethodsAreToldTheRightOnes(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for path, want := range map[string]string{inferPath: "POST", "/v2/health/ready": "GET, HEAD", "/v2/logging": "GET, HEAD, POST"} {
		if got := g.call(t, "PUT", path, "").header.Get("Allow"); got != want {
			t.Errorf("%s: Allow %q, want %q", path, got, want)
		}
	}
}

func TestMethodsThatNobodyKnowsAreCountedAsOne(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	g.call(t, "BREW", "/coffee", "")
	if seen := <-g.observed; seen != (observation{unmatchedRoute, "_OTHER", http.StatusNotFound, "ROUTE_NOT_FOUND"}) {
		t.Errorf("observed %+v", seen)
	}
}
