package rest

import (
	"net/http"
	"strconv"
	"testing"
)

const (
	binaryJSON    = `{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}`
	binaryTensor  = "\x00\x00\xc0\x7f\x00\x00\x80\xff" // NaN and minus infinity, which JSON cannot say
	binaryOutputs = `{"model_name":"digits","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}`
)

func headerLength(text string) string {
	return "Inference-Header-Content-Length: " + strconv.Itoa(len(text))
}

func TestBinaryTensorsPassBothWays(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for name, headers := range map[string][]string{
		"as clients send them":    {headerLength(binaryJSON), "Content-Type: application/octet-stream"},
		"called JSON":             {headerLength(binaryJSON), "Content-Type: application/json"},
		"raw, as the only input":  {"Inference-Header-Content-Length: 0"},
		"raw, for a certain type": {"Inference-Header-Content-Length: 0", "Content-Type: image/jpeg"},
	} {
		t.Run(name, func(t *testing.T) {
			body := binaryJSON + binaryTensor
			if headers[0] == "Inference-Header-Content-Length: 0" {
				body = binaryTensor
			}
			got := g.call(t, "POST", inferPath, body, headers...)
			if got.status != http.StatusOK || got.body != binaryOutputs+binaryTensor {
				t.Fatalf("got %d %q", got.status, got.body)
			}
			length, kind := got.header.Get("Inference-Header-Content-Length"), got.header.Get("Content-Type")
			if length != strconv.Itoa(len(binaryOutputs)) || kind != "application/octet-stream" || got.header.Get("Content-Length") != strconv.Itoa(len(got.body)) {
				t.Errorf("got %v", got.header)
			}
		})
	}
}

func TestBinaryInputsAndJSONOutputsMix(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	const text = `{"inputs":[{"name":"x","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}}]}`
	got := g.call(t, "POST", inferPath, text+"\x01\xff", headerLength(text))
	const want = `{"model_name":"digits","model_version":"1","outputs":[{"name":"y","datatype":"INT8","shape":[2],"data":[1,-1]}]}`
	if got.status != http.StatusOK || got.body != want || got.header.Get("Inference-Header-Content-Length") != "" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s %v", got.status, got.body, got.header)
	}
}

func TestBinaryBodiesThatDoNotAddUpAreRefused(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for name, test := range map[string]struct{ body, header, path, code string }{
		"a header beyond the body": {binaryJSON + binaryTensor, "Inference-Header-Content-Length: 9999", inferPath, "INVALID_REQUEST"},
		"no header":                {binaryJSON, "Accept: */*", inferPath, "INVALID_TENSOR"},
		"a tensor cut short":       {binaryJSON + binaryTensor[:7], headerLength(binaryJSON), inferPath, "INVALID_TENSOR"},
		"a byte too many":          {binaryJSON + binaryTensor + "x", headerLength(binaryJSON), inferPath, "INVALID_REQUEST"},
		"raw, part of an element":  {binaryTensor[:7], "Inference-Header-Content-Length: 0", inferPath, "INVALID_TENSOR"},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.call(t, "POST", test.path, test.body, test.header)
			if code, message, _ := got.failure(t); got.status != http.StatusBadRequest || code != test.code || message == "" {
				t.Errorf("got %d %s %q, want 400 %s", got.status, code, message, test.code)
			}
		})
	}
	got := g.call(t, "POST", "/v2/models/none/infer", binaryTensor, "Inference-Header-Content-Length: 0")
	if code, _, _ := got.failure(t); got.status != http.StatusNotFound || code != "MODEL_NOT_FOUND" {
		t.Errorf("a raw request to an unknown model: got %d %s", got.status, code)
	}
}
