package rest

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// bounded makes a handler of an endpoint, with a context that ends with the call's deadline.
func (s *server) bounded(serve func(ctx context.Context, r *http.Request) ([]byte, error)) handler {
	return inJSON(func(_ http.ResponseWriter, r *http.Request) ([]byte, error) {
		limit, err := s.deadlineOf(r)
		if err != nil {
			return nil, err
		}
		ctx, cancel := limit.context(r)
		defer cancel()
		return serve(ctx, r)
	})
}

// ofModel is bounded for an endpoint about the model, and its version, that the path names; both may be "".
func (s *server) ofModel(serve func(ctx context.Context, name, version string) ([]byte, error)) handler {
	return s.bounded(func(ctx context.Context, r *http.Request) ([]byte, error) {
		name, version, err := modelOf(r)
		if err != nil {
			return nil, err
		}
		return serve(ctx, name, version)
	})
}

// withBody is bounded for an endpoint that reads the request's body.
func (s *server) withBody(serve func(ctx context.Context, r *http.Request, body []byte) ([]byte, error)) handler {
	return inJSON(func(w http.ResponseWriter, r *http.Request) ([]byte, error) {
		limit, err := s.deadlineOf(r)
		if err != nil {
			return nil, err
		}
		body, err := readBody(w, r, s.MaxRequestBytes, limit.at)
		if err != nil {
			return nil, err
		}
		ctx, cancel := limit.context(r)
		defer cancel()
		return serve(ctx, r, body)
	})
}

// withoutBody is withBody for a method whose body, if there is one, means nothing.
func (s *server) withoutBody(serve func(ctx context.Context, r *http.Request, body []byte) ([]byte, error)) handler {
	return s.bounded(func(ctx context.Context, r *http.Request) ([]byte, error) { return serve(ctx, r, nil) })
}

// modelOf is the model that the path names, and its version, "" where it names none. As in Triton, a version is digits.
func modelOf(r *http.Request) (name, version string, err error) {
	name, version = r.PathValue("model"), r.PathValue("version")
	if !utf8.ValidString(name) {
		return "", "", apierr.New(apierr.InvalidRequest, "the model's name in the path must be UTF-8 text")
	}
	for _, character := range []byte(version) {
		if character < '0' || character > '9' {
			return "", "", apierr.New(apierr.InvalidRequest, "the model's version in the path is %q: must be digits, such as 1", version)
		}
	}
	return name, version, nil
}

// encoded is a response as a handler returns it: in JSON, or what failed instead.
func encoded[Response any](response Response, err error, appendTo func(dst []byte, response Response) []byte) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return appendTo(nil, response), nil
}
