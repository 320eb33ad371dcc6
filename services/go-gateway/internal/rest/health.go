package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// readyTimeout bounds the question whether a backend is ready: who asks it asks again.
const readyTimeout = 2 * time.Second

// live answers as long as the process does.
func (s *server) live(http.ResponseWriter, *http.Request) ([]byte, error) {
	return oip.AppendLive(nil), nil
}

// ready answers whether a backend is ready.
func (s *server) ready(_ http.ResponseWriter, r *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	response, err := backend.Call(ctx, s.Client.ServerReady, &pb.ServerReadyRequest{})
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, apierr.New(apierr.Unavailable, "no backend is ready: %w", err)
	}
	if !response.GetReady() {
		return nil, apierr.New(apierr.Unavailable, "no backend is ready")
	}
	return oip.AppendReady(nil), nil
}

// modelReady answers whether a model can be called.
func (s *server) modelReady(ctx context.Context, name, version string) ([]byte, error) {
	response, err := backend.Call(ctx, s.Client.ModelReady, &pb.ModelReadyRequest{Name: name, Version: version})
	if err == nil && !response.GetReady() {
		err = apierr.New(apierr.ModelNotReady, "model %q is unknown or still loading", name)
	}
	return encoded(name, err, oip.AppendModelReady)
}
