package app

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backendtest"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// endless is a pod whose model answers once and then says nothing more.
func endless(t *testing.T) *backendtest.Pod {
	t.Helper()
	return backendtest.Start(t, func(p *backendtest.Pod) {
		p.Administer = func(rpc string, _ any) (any, error) {
			switch rpc {
			case "ModelMetadata":
				return &pb.ModelMetadataResponse{Name: "m"}, nil
			case "ModelConfig":
				return &pb.ModelConfigResponse{Config: &pb.ModelConfig{ModelTransactionPolicy: &pb.ModelTransactionPolicy{Decoupled: true}}}, nil
			}
			return nil, grpcstatus.Error(codes.Unimplemented, rpc)
		}
		p.Stream = func(stream pb.GRPCInferenceService_ModelStreamInferServer) error {
			if err := stream.Send(&pb.ModelStreamInferResponse{InferResponse: &pb.ModelInferResponse{ModelName: "m"}}); err != nil {
				return err
			}
			<-stream.Context().Done()
			return stream.Context().Err()
		}
	}, "127.0.0.1")[0]
}

func TestDrain_streams_that_outlast_it_are_told_and_end_whole(t *testing.T) {
	g := start(t, endless(t), func(c *config.Config) { c.Drain.Timeout = time.Second })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.rest+"/v2/models/m/generate_stream", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	if response.StatusCode != http.StatusOK {
		t.Fatalf("got %s", response.Status)
	}
	var metrics bytes.Buffer
	scrape(t, g.admin+"/metrics", &metrics)
	if !strings.Contains(metrics.String(), "\npolyglot_gateway_streams_open 1\n") {
		t.Error("the open stream isn't counted")
	}
	g.terminate()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("the stream was cut off: %v", err)
	}
	events := strings.Split(strings.TrimSuffix(string(text), "\n\n"), "\n\n")
	if last := events[len(events)-1]; len(events) != 2 || !strings.Contains(last, `"code":"SERVER_DRAINING"`) {
		t.Errorf("got %q", events)
	}
	if err := g.wait(); err != nil {
		t.Error(err)
	}
}

func scrape(t *testing.T, url string, into io.Writer) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(into, response.Body); err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
}
