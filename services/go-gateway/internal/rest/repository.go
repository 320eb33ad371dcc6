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
	if err != nil {
		return nil, err
	}
	return oip.AppendIndex(nil, response), nil
}

// load loads a model, or loads it again; success has no body.
func (s *server) load(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	name, _, err := modelOf(r)
	if err != nil {
		return nil, err
	}
	parameters, err := oip.DecodeRepositoryParameters(body)
	if err != nil {
		return nil, err
	}
	_, err = s.Administration.RepositoryModelLoad(ctx, &pb.RepositoryModelLoadRequest{ModelName: name, Parameters: parameters})
	return nil, err
}

// unload unloads a model; success has no body.
func (s *server) unload(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	name, _, err := modelOf(r)
	if err != nil {
		return nil, err
	}
	parameters, err := oip.DecodeRepositoryParameters(body)
	if err != nil {
		return nil, err
	}
	_, err = s.Administration.RepositoryModelUnload(ctx, &pb.RepositoryModelUnloadRequest{ModelName: name, Parameters: parameters})
	return nil, err
}
