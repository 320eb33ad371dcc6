package rest

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// firstBodyBytes is the buffer for a body whose announced length is not to be believed yet.
const firstBodyBytes = 1 << 20

// readBody reads the request's body, at most limit bytes, until the deadline.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(r.ContentLength, limit)
	}
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(deadline); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), firstBodyBytes)) + bytes.MinRead)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		return nil, bodyError(r, err, limit)
	}
	// What is read from here on is the caller hanging up, which has no deadline.
	if err := connection.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	return body.Bytes(), nil
}

func bodyError(r *http.Request, err error, limit int64) error {
	var overflow *http.MaxBytesError
	switch {
	case errors.As(err, &overflow):
		return apierr.New(apierr.MessageTooLarge, "the body is larger than limits.maxRequestBytes = %d", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return apierr.New(apierr.DeadlineExceeded, "the deadline passed before the body was read: %w", err)
	case r.Context().Err() != nil:
		return apierr.New(apierr.Cancelled, "the caller went away before the body was read: %w", err)
	}
	return apierr.New(apierr.InvalidRequest, "the body could not be read: %w", err)
}

func tooLarge(size, limit int64) error {
	return apierr.New(apierr.MessageTooLarge, "the request has %d bytes, more than limits.maxRequestBytes = %d", size, limit)
}
