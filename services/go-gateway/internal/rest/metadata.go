package rest

import (
	"context"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func (s *server) serverMetadata(ctx context.Context, _ *http.Request) ([]byte, error) {
	response, err := s.Administration.ServerMetadata(ctx, &pb.ServerMetadataRequest{})
	return encoded(response, err, oip.AppendServerMetadata)
}

func (s *server) modelMetadata(ctx context.Context, name, version string) ([]byte, error) {
	response, err := backend.Call(ctx, s.Client.ModelMetadata, &pb.ModelMetadataRequest{Name: name, Version: version})
	return encoded(response, err, oip.AppendModelMetadata)
}

func (s *server) modelConfig(ctx context.Context, name, version string) ([]byte, error) {
	response, err := backend.Call(ctx, s.Client.ModelConfig, &pb.ModelConfigRequest{Name: name, Version: version})
	return encoded[proto.Message](response.GetConfig(), err, oip.AppendMessage)
}

// statistics are those of one model, or of all where the path names none.
func (s *server) statistics(ctx context.Context, name, version string) ([]byte, error) {
	response, err := s.Administration.ModelStatistics(ctx, &pb.ModelStatisticsRequest{Name: name, Version: version})
	return encoded[proto.Message](response, err, oip.AppendMessage)
}
