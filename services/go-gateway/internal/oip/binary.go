package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// BinaryHeader is the HTTP header that says how many bytes of a body are JSON; binary tensors follow them, in the order in
// which the JSON names their tensors. Triton's binary tensor data extension:
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
const BinaryHeader = "Inference-Header-Content-Length"

// Parameters of that extension. They say how tensors travel over REST; backends, which are called by gRPC, never see them.
const (
	binaryDataSize   = "binary_data_size"   // of an input or output: its bytes behind the JSON
	binaryData       = "binary_data"        // of a requested output: whether as binary data
	binaryDataOutput = "binary_data_output" // of a request: the same for every output that doesn't say
)

// BinaryOutputs says which outputs the caller wants as binary data; the zero value says none.
type BinaryOutputs struct {
	all   bool
	named map[string]bool
}

// AllBinary wants every output as binary data.
var AllBinary = BinaryOutputs{all: true}

func (b BinaryOutputs) include(name string) bool {
	if own, ok := b.named[name]; ok {
		return own
	}
	return b.all
}

func (b *BinaryOutputs) set(name string, wanted bool) {
	if b.named == nil {
		b.named = map[string]bool{}
	}
	b.named[name] = wanted
}

// SplitBody splits a body into its JSON and the binary tensors behind it; length is the value of BinaryHeader, "" where the
// header is absent and all of the body is JSON.
func SplitBody(body []byte, length string) (text, tensors []byte, err error) {
	if length == "" {
		return body, nil, nil
	}
	size, err := strconv.ParseUint(length, 10, 63)
	if err != nil {
		return nil, nil, apierr.New(apierr.InvalidRequest, "header %s is %q: must be the number of bytes of the JSON text", BinaryHeader, shortened([]byte(length)))
	}
	if size > uint64(len(body)) {
		return nil, nil, apierr.New(apierr.InvalidRequest, "header %s is %d, but the body has %d bytes", BinaryHeader, size, len(body))
	}
	return body[:size], body[size:], nil
}

// DecodeRawRequest makes an infer request of a body that is nothing but the model's only input, for one row where rows vary;
// the body of a BYTES input is its one element. That is what the value 0 of BinaryHeader announces, and it asks for every
// output as binary data. The request's tensor is body itself.
func DecodeRawRequest(body []byte, model *pb.ModelMetadataResponse, name, version string) (*pb.ModelInferRequest, error) {
	if len(model.GetInputs()) != 1 {
		return nil, apierr.New(apierr.InvalidRequest, "model %q has %d inputs; a body without JSON (%s: 0) can only be the input of a model that has one",
			name, len(model.GetInputs()), BinaryHeader)
	}
	input := model.GetInputs()[0]
	kind, ok := datatypes[input.GetDatatype()]
	if !ok {
		return nil, apierr.New(apierr.Internal, "the backend describes input %q with an unknown datatype, %q", input.GetName(), input.GetDatatype())
	}
	raw, count := body, int64(1)
	switch size := kind.size; {
	case size == 0:
		raw = append(binary.LittleEndian.AppendUint32(make([]byte, 0, bytesLength+len(body)), uint32(len(body))), body...)
	case len(body)%size != 0:
		return nil, apierr.New(apierr.InvalidTensor, "input %q: the body has %d bytes, which is no whole number of elements of %s (%d bytes each)",
			input.GetName(), len(body), input.GetDatatype(), size)
	default:
		count = int64(len(body) / size)
	}
	shape, err := shapeOf(count, input.GetShape())
	if err != nil {
		return nil, apierr.New(apierr.InvalidTensor, "input %q: %w", input.GetName(), err)
	}
	return &pb.ModelInferRequest{
		ModelName: name, ModelVersion: version,
		Inputs:           []*pb.ModelInferRequest_InferInputTensor{{Name: input.GetName(), Datatype: input.GetDatatype(), Shape: shape}},
		RawInputContents: [][]byte{raw},
	}, nil
}

// shapeOf is a declared shape with its open dimensions, -1, filled so that it holds count elements: the last of them takes
// what the fixed dimensions leave, the others are 1. Triton's rule for requests that name no shape.
func shapeOf(count int64, declared []int64) ([]int64, error) {
	fixed, last := int64(1), -1
	for axis, dimension := range declared {
		switch {
		case dimension < 0:
			last = axis
		case dimension > 0 && fixed > math.MaxInt64/dimension:
			return nil, fmt.Errorf("the model's shape %s holds more elements than can be addressed", shapeText(declared))
		default:
			fixed *= dimension
		}
	}
	shape := make([]int64, len(declared))
	for axis, dimension := range declared {
		shape[axis] = max(dimension, 1)
		if dimension == 0 {
			shape[axis] = 0
		}
	}
	if last >= 0 && fixed > 0 {
		shape[last] = count / fixed
	}
	if held, err := elements(shape); err != nil || held != count {
		return nil, fmt.Errorf("%d elements do not fill the model's shape %s", count, shapeText(declared))
	}
	return shape, nil
}

// cut takes the next size bytes off the binary tensors, as the data of input; the capacity ends with them.
func (d *requestDecoder) cut(input *pb.ModelInferRequest_InferInputTensor, size int64) ([]byte, error) {
	if size > int64(len(d.binary)) {
		return nil, apierr.New(apierr.InvalidTensor, "input %q: %s is %d, but %d bytes are left behind the JSON text, whose length is the header %s",
			input.GetName(), binaryDataSize, size, len(d.binary), BinaryHeader)
	}
	raw := d.binary[:size:size]
	d.binary = d.binary[size:]
	if err := CheckRaw(input.GetDatatype(), input.GetShape(), raw); err != nil {
		return nil, apierr.New(apierr.InvalidTensor, "input %q: %w", input.GetName(), err)
	}
	return raw, nil
}

// CheckRaw checks that raw holds a tensor of that datatype and shape.
func CheckRaw(name string, shape []int64, raw []byte) error {
	kind, ok := datatypes[name]
	if !ok {
		return unknownDatatype(name)
	}
	count, err := elements(shape)
	if err != nil {
		return err
	}
	if kind.size > 0 {
		if int64(len(raw)) != count*int64(kind.size) {
			return fmt.Errorf("shape %s needs %d bytes of %s, found %d", shapeText(shape), count*int64(kind.size), name, len(raw))
		}
		return nil
	}
	for index := range count {
		if _, raw, err = kind.next(raw); err != nil {
			return fmt.Errorf("element %d %w", index, err)
		}
	}
	if len(raw) > 0 {
		return fmt.Errorf("%d bytes follow the last element", len(raw))
	}
	return nil
}
