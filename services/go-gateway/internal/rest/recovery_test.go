package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// panicking is a client with a bug.
type panicking struct{ pb.GRPCInferenceServiceClient }

func (panicking) ModelInfer(context.Context, *pb.ModelInferRequest, ...grpc.CallOption) (*pb.ModelInferResponse, error) {
	panic("secret detail")
}

func TestPanicIsAnInternalErrorWhoseStackIsInTheLogAlone(t *testing.T) {
	g := newGateway(t, nil, func(options *Options) { options.Client = panicking{} })
	got := g.call(t, "POST", inferPath, inferBody)
	code, message, _ := got.failure(t)
	if got.status != http.StatusInternalServerError || code != "INTERNAL" || message != "internal error; the gateway's log has the details under this trace id" {
		t.Errorf("got %d %s %q", got.status, code, message)
	}
	lines := g.logged(t)
	if len(lines) != 1 || lines[0]["level"] != "ERROR" {
		t.Fatalf("logged %v, want one error", lines)
	}
	if cause, _ := lines[0]["cause"].(string); !strings.Contains(cause, "secret detail") || !strings.Contains(cause, "recovery_test.go") {
		t.Errorf("the logged cause lacks the panic or its stack: %q", cause)
	}
	if got := g.call(t, "GET", "/v2/health/live", ""); got.status != http.StatusOK {
		t.Errorf("the next call is answered %d", got.status)
	}
}
