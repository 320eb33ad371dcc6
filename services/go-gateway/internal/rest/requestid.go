package rest

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

const (
	requestIDHeader  = "X-Request-Id"
	longestRequestID = 128
)

// withRequestID carries the caller's X-Request-Id on to the backend and echoes it. It is the caller's name for the call;
// where there is none, the trace id does.
func withRequestID(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := r.Header.Get(requestIDHeader)
		if id == "" {
			return next(w, r)
		}
		if len(id) > longestRequestID || strings.ContainsFunc(id, notVisible) {
			return apierr.New(apierr.InvalidRequest, "header %s must be at most %d visible ASCII characters", requestIDHeader, longestRequestID)
		}
		w.Header().Set(requestIDHeader, id)
		ctx := metadata.AppendToOutgoingContext(r.Context(), strings.ToLower(requestIDHeader), id)
		return next(w, r.WithContext(ctx))
	}
}

func notVisible(character rune) bool { return character <= ' ' || character > '~' }
