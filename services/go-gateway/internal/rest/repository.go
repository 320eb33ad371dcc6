package rest

import (
	"context"
	"net/http"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func (s *server) repositoryIndex(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	request, err := oip.DecodeIndexRequest(body)
	if err != nil {
		return nil, err
	}
	response, err := s.Administration.RepositoryIndex(ctx, request)
	return encoded(response, err, oip.AppendIndex)
}

// load loads a model, or loads it again.
func (s *server) load(ctx context.Context, name string, parameters map[string]*pb.ModelRepositoryParameter) error {
	_, err := s.Administration.RepositoryModelLoad(ctx, &pb.RepositoryModelLoadRequest{ModelName: name, Parameters: parameters})
	return err
}

func (s *server) unload(ctx context.Context, name string, parameters map[string]*pb.ModelRepositoryParameter) error {
	_, err := s.Administration.RepositoryModelUnload(ctx, &pb.RepositoryModelUnloadRequest{ModelName: name, Parameters: parameters})
	return err
}

// ofRepository is withBody for a change of the model that the path names; success has no body.
func (s *server) ofRepository(change func(ctx context.Context, name string, parameters map[string]*pb.ModelRepositoryParameter) error) handler {
	return s.withBody(func(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
		name, _, err := modelOf(r)
		if err != nil {
			return nil, err
		}
		parameters, err := oip.DecodeRepositoryParameters(body)
		if err != nil {
			return nil, err
		}
		return nil, change(ctx, name, parameters)
	})
}
