package grpc_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestCompression_callers_may_use_gzip_and_deflate(t *testing.T) {
	gateway := start(t, backendtest.Start(t, nil, "127.0.0.1")[0])
	tensor := bytes.Repeat([]byte("text"), 1<<10)
	for _, name := range []string{"gzip", "deflate"} {
		request := &pb.ModelInferRequest{RawInputContents: [][]byte{tensor}}
		response, err := gateway.ModelInfer(t.Context(), request, grpc.UseCompressor(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(response.GetRawOutputContents()[0], tensor) {
			t.Errorf("%s: another tensor came back", name)
		}
	}
}

func TestCompression_messages_that_unfold_beyond_the_limit_are_refused(t *testing.T) {
	gateway := start(t, backendtest.Start(t, nil, "127.0.0.1")[0])
	bomb := &pb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, 16*maxRequestBytes)}}
	for _, name := range []string{"gzip", "deflate"} {
		_, err := gateway.ModelInfer(t.Context(), bomb, grpc.UseCompressor(name))
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: got %v, want RESOURCE_EXHAUSTED", name, err)
		}
	}
}
