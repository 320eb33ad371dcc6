package rest

import (
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

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
	body, err := readBody(w, r, s.MaxRequestBytes, limit.at)
	if err != nil {
		return err
	}
	request, binary, err := s.inferRequest(r, limit, body)
	if err != nil {
		return err
	}
	// Raw tensors can be larger than their text: "0," becomes eight bytes of FP64.
	if size := int64(proto.Size(request)); size > s.MaxRequestBytes {
		return tooLarge(size, s.MaxRequestBytes)
	}
	if limit, err = limit.with(request, arrival); err != nil {
		return err
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	response, err := call(ctx, s.Client.ModelInfer, request)
	if err != nil {
		return err
	}
	text, tensors, err := oip.AppendInferResponse(nil, response, binary)
	if err != nil {
		return err
	}
	if tensors != nil {
		w.Header().Set(oip.BinaryHeader, strconv.Itoa(len(text)))
		return answerAccepted(w, r, "application/octet-stream", text, tensors...)
	}
	return answerAccepted(w, r, "application/json", text)
}

// inferRequest reads a body whose JSON is as long as a header says. One without any is the model's only input.
func (s *server) inferRequest(r *http.Request, limit deadline, body []byte) (*pb.ModelInferRequest, oip.BinaryOutputs, error) {
	name, version, err := modelOf(r)
	if err != nil {
		return nil, oip.BinaryOutputs{}, err
	}
	header := r.Header.Get(oip.BinaryHeader)
	text, tensors, err := oip.SplitBody(body, header)
	if err != nil {
		return nil, oip.BinaryOutputs{}, err
	}
	if header == "" || len(text) > 0 {
		return oip.DecodeInferRequest(text, tensors, name, version)
	}
	ctx, cancel := limit.context(r)
	defer cancel()
	model, err := call(ctx, s.Client.ModelMetadata, &pb.ModelMetadataRequest{Name: name, Version: version})
	if err != nil {
		return nil, oip.BinaryOutputs{}, err
	}
	request, err := oip.DecodeRawRequest(tensors, model, version)
	return request, oip.AllBinary, err
}
