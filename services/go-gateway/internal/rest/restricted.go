package rest

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
)

// restricted refuses a call of a restricted API without its header, and carries the header on to the pods, which may have
// the same restriction.
func (s *server) restricted(api access.API, next handler) handler {
	restriction, ok := s.Policy.Restrictions[api]
	if !ok {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.Policy.Admit(api, r.Header.Get); err != nil {
			return err
		}
		ctx := metadata.AppendToOutgoingContext(r.Context(), access.HeaderPrefix+strings.ToLower(restriction.Header), restriction.Value)
		return next(w, r.WithContext(ctx))
	}
}
