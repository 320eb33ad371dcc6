package rest

import (
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
)

// infer reads JSON tensors, has a backend compute, and writes JSON tensors.
func (s *server) infer(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	arrival := time.Now()
	name, version, err := modelOf(r)
	if err != nil {
		return nil, err
	}
	limit, err := s.deadlineOf(r)
	if err != nil {
		return nil, err
	}
	body, err := readBody(w, r, s.MaxRequestBytes, limit.at)
	if err != nil {
		return nil, err
	}
	request, err := oip.DecodeInferRequest(body, name, version)
	if err != nil {
		return nil, err
	}
	// Raw tensors can be larger than their text: "0," becomes eight bytes of FP64.
	if size := int64(proto.Size(request)); size > s.MaxRequestBytes {
		return nil, tooLarge(size, s.MaxRequestBytes)
	}
	if limit, err = limit.with(request, arrival); err != nil {
		return nil, err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	response, err := call(ctx, s.Client.ModelInfer, request)
	if err != nil {
		return nil, err
	}
	return oip.AppendInferResponse(nil, response)
}
