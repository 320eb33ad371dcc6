package rest

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// infer reads tensors, JSON or binary, has a backend compute, and writes tensors in the forms that the caller asks for.
func (s *server) infer(w http.ResponseWriter, r *http.Request) error {
	arrival := time.Now()
	limit, err := s.deadlineOf(r)
	if err != nil {
		return err
	}
	name, version, err := modelOf(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, s.MaxRequestBytes, limit.at)
	if err != nil {
		return err
	}
	header := r.Header.Get(oip.BinaryHeader)
	text, tensors, err := oip.SplitBody(body, header)
	if err != nil {
		return err
	}
	if header != "" && len(text) == 0 {
		return s.inferRaw(w, r, tensors, limit)
	}
	request, binary, err := oip.DecodeInferRequest(text, tensors, name, version)
	if err != nil {
		return err
	}
	if limit, err = limit.with(request, arrival); err != nil {
		return err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	response, err := s.compute(ctx, request)
	if err != nil {
		return err
	}
	return answerTensors(w, r, response, binary)
}

// inferRaw is infer for a body that is the model's only input.
func (s *server) inferRaw(w http.ResponseWriter, r *http.Request, input []byte, limit deadline) error {
	name, version, err := modelOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	var response *pb.ModelInferResponse
	err = s.described(ctx, name, version, func(known model) error {
		request, err := oip.DecodeRawRequest(input, known.metadata, name, version)
		if err != nil {
			return err
		}
		response, err = s.compute(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	return answerTensors(w, r, response, oip.AllBinary)
}

// compute has a backend answer a request.
func (s *server) compute(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	// Raw tensors can be larger than their text: "0," becomes eight bytes of FP64.
	if size := int64(proto.Size(request)); size > s.MaxRequestBytes {
		return nil, tooLarge(size, s.MaxRequestBytes)
	}
	return backend.Call(ctx, s.Client.ModelInfer, request)
}

// texts are buffers for the JSON of answers. One that was written whole can be used again; large ones are rare and not kept.
var texts = sync.Pool{New: func() any { return new([]byte) }}

const longestKeptText = 64 << 10

func answerTensors(w http.ResponseWriter, r *http.Request, response *pb.ModelInferResponse, binary oip.BinaryOutputs) error {
	buffer := texts.Get().(*[]byte)
	text, tensors, err := oip.AppendInferResponse((*buffer)[:0], response, binary)
	if err != nil {
		return err
	}
	contentType := "application/json"
	if tensors != nil {
		contentType = "application/octet-stream"
		w.Header().Set(oip.BinaryHeader, strconv.Itoa(len(text)))
	}
	err = answerAccepted(w, r, contentType, text, tensors...)
	if err == nil && cap(text) <= longestKeptText {
		*buffer = text
		texts.Put(buffer)
	}
	return err
}
