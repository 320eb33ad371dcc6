package rest

import (
	"net/http"
	"unicode/utf8"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func (s *server) serverMetadata(_ http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit, err := s.deadlineOf(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	response, err := call(ctx, s.Client.ServerMetadata, &pb.ServerMetadataRequest{})
	if err != nil {
		return nil, err
	}
	return oip.AppendServerMetadata(nil, response), nil
}

func (s *server) modelMetadata(_ http.ResponseWriter, r *http.Request) ([]byte, error) {
	name, version, err := modelOf(r)
	if err != nil {
		return nil, err
	}
	limit, err := s.deadlineOf(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	response, err := call(ctx, s.Client.ModelMetadata, &pb.ModelMetadataRequest{Name: name, Version: version})
	if err != nil {
		return nil, err
	}
	return oip.AppendModelMetadata(nil, response), nil
}

// modelOf is the model that the path names, and its version, "" where it names none.
func modelOf(r *http.Request) (name, version string, err error) {
	name, version = r.PathValue("model"), r.PathValue("version")
	if !utf8.ValidString(name) || !utf8.ValidString(version) {
		return "", "", apierr.New(apierr.InvalidRequest, "the model's name and version in the path must be UTF-8 text")
	}
	return name, version, nil
}
