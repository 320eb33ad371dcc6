package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestRequestIDTravelsToTheBackendAndBack(t *testing.T) {
	for name, test := range map[string]struct {
		headers []string
		carried []string
		echoed  string
	}{
		"given":   {[]string{"X-Request-Id: r-1"}, []string{"r-1"}, "r-1"},
		"missing": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			carried := make(chan []string, 1)
			g := newGateway(t, &pod{infer: func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				carried <- metadata.ValueFromIncomingContext(ctx, "x-request-id")
				return &pb.ModelInferResponse{}, nil
			}}, nil)
			got := g.call(t, "POST", inferPath, inferBody, test.headers...)
			if got.status != http.StatusOK || got.header.Get("X-Request-Id") != test.echoed {
				t.Errorf("got %d with id %q, want 200 with %q", got.status, got.header.Get("X-Request-Id"), test.echoed)
			}
			if ids := <-carried; !slices.Equal(ids, test.carried) {
				t.Errorf("the backend got %v, want %v", ids, test.carried)
			}
		})
	}
}

func TestRequestIDThatMetadataCannotCarryIsRefused(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for name, id := range map[string]string{"too long": strings.Repeat("a", 129), "not ASCII": "é", "with a space": "a b"} {
		t.Run(name, func(t *testing.T) {
			got := g.call(t, "GET", "/v2/health/live", "", "X-Request-Id: "+id)
			code, message, _ := got.failure(t)
			if got.status != http.StatusBadRequest || code != "INVALID_REQUEST" || message != "header X-Request-Id must be at most 128 visible ASCII characters" {
				t.Errorf("got %d %s %q", got.status, code, message)
			}
		})
	}
}
