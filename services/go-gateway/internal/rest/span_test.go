package rest

import (
	"context"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestSpanSaysWhatWasAskedAndAnswered(t *testing.T) {
	failing := &pod{infer: func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		return nil, failed(ctx, apierr.ModelFailed, "because")
	}}
	for name, test := range map[string]struct {
		b            *pod
		method, path string
		want         map[attribute.Key]any
		absent       []attribute.Key
		status       codes.Code
	}{
		"success": {
			&pod{}, "POST", inferPath,
			map[attribute.Key]any{
				"http.request.method": "POST", "http.route": "/v2/models/{model}/infer", "url.path": inferPath, "url.scheme": "http",
				"http.response.status_code": int64(http.StatusOK), "http.request.body.size": int64(len(inferBody)), "server.address": "127.0.0.1",
				"network.peer.address": "127.0.0.1", "client.address": "203.0.113.9", "network.protocol.version": "1.1", "user_agent.original": "test/1",
			},
			[]attribute.Key{"error.type", "http.request.method_original"},
			codes.Unset,
		},
		"the caller's fault": {
			&pod{}, "POST", "/v2/models/none/infer",
			map[attribute.Key]any{"http.response.status_code": int64(http.StatusNotFound), "error.type": "MODEL_NOT_FOUND"},
			nil,
			codes.Unset,
		},
		"the model's fault": {
			failing, "POST", inferPath,
			map[attribute.Key]any{"http.response.status_code": int64(http.StatusInternalServerError), "error.type": "MODEL_FAILED"},
			nil,
			codes.Error,
		},
		"no path and no method": {
			&pod{}, "BREW", "/coffee",
			map[attribute.Key]any{
				"http.request.method": "_OTHER", "http.request.method_original": "BREW", "http.response.status_code": int64(http.StatusNotFound),
				"error.type": "ROUTE_NOT_FOUND",
			},
			[]attribute.Key{"http.route"},
			codes.Unset,
		},
	} {
		t.Run(name, func(t *testing.T) {
			spans := traced(t)
			g := newGateway(t, test.b, nil)
			got := g.call(t, test.method, test.path, inferBody, "X-Forwarded-For: 203.0.113.9, 10.0.0.1", "User-Agent: test/1")
			g.Close() // waits for the handler, and so for its span
			span := spans.Ended()[0]
			attributes := map[attribute.Key]any{}
			for _, each := range span.Attributes() {
				attributes[each.Key] = each.Value.AsInterface()
			}
			test.want["http.response.body.size"] = int64(len(got.body))
			for key, want := range test.want {
				if attributes[key] != want {
					t.Errorf("%s is %v, want %v", key, attributes[key], want)
				}
			}
			for _, key := range test.absent {
				if value, ok := attributes[key]; ok {
					t.Errorf("%s is %v, want none", key, value)
				}
			}
			if span.Status().Code != test.status {
				t.Errorf("the span's status is %v, want %v", span.Status().Code, test.status)
			}
		})
	}
}
