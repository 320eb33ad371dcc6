package oip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// AppendInferResponse appends the JSON form of an infer response, data flat in row-major order, to dst. The outputs that are
// wanted as binary data are returned in their raw form, to be sent behind the JSON.
//
// Errors are *apierr.Error: UNREPRESENTABLE where JSON cannot say the result, INTERNAL where the backend's answer
// contradicts itself.
func AppendInferResponse(dst []byte, response *pb.ModelInferResponse, binary BinaryOutputs) (text []byte, tensors [][]byte, err error) {
	if raw := len(response.GetRawOutputContents()); raw > 0 && raw != len(response.GetOutputs()) {
		return dst, nil, apierr.New(apierr.Internal, "the backend answered %d outputs with %d raw contents", len(response.GetOutputs()), raw)
	}
	dst = appendField(dst, `{"model_name":`, response.GetModelName())
	dst = appendOptional(dst, `,"model_version":`, response.GetModelVersion())
	dst = appendOptional(dst, `,"id":`, response.GetId())
	dst, err = appendParameters(dst, response.GetParameters())
	if err != nil {
		return dst, nil, apierr.New(apierr.Unrepresentable, "%w; call by gRPC", err)
	}
	dst = append(dst, `,"outputs":[`...)
	for index, output := range response.GetOutputs() {
		if index > 0 {
			dst = append(dst, ',')
		}
		if inSharedMemory(output.GetParameters()) {
			if dst, err = appendParameters(appendDescription(dst, output), output.GetParameters()); err != nil {
				return dst, nil, apierr.New(apierr.Unrepresentable, "output %q: %w; call by gRPC", output.GetName(), err)
			}
			dst = append(dst, '}')
			continue
		}
		raw, err := rawOutput(response, index)
		if err != nil {
			return dst, nil, contradiction(output, err)
		}
		if binary.include(output.GetName()) {
			tensors = append(tensors, raw)
			dst, err = appendBinaryOutput(dst, output, raw)
		} else {
			dst, err = appendOutput(dst, output, raw)
		}
		if err != nil {
			return dst, nil, err
		}
	}
	return append(dst, "]}"...), tensors, nil
}

// rawOutput is the raw form of an output, wherever the backend put it.
func rawOutput(response *pb.ModelInferResponse, index int) ([]byte, error) {
	if raw := response.GetRawOutputContents(); len(raw) > 0 {
		return raw[index], nil
	}
	output := response.GetOutputs()[index]
	return RawContents(output.GetDatatype(), output.GetContents())
}

// appendBinaryOutput appends an output whose data follows the JSON.
func appendBinaryOutput(dst []byte, output *pb.ModelInferResponse_InferOutputTensor, raw []byte) ([]byte, error) {
	if err := CheckRaw(output.GetDatatype(), output.GetShape(), raw); err != nil {
		return dst, contradiction(output, err)
	}
	dst, err := appendBinaryParameters(appendDescription(dst, output), output.GetParameters(), len(raw))
	if err != nil {
		return dst, apierr.New(apierr.Unrepresentable, "output %q: %w; call by gRPC", output.GetName(), err)
	}
	return append(dst, '}'), nil
}

// appendDescription begins an output's object.
func appendDescription(dst []byte, output *pb.ModelInferResponse_InferOutputTensor) []byte {
	dst = appendField(dst, `{"name":`, output.GetName())
	dst = appendField(dst, `,"datatype":`, output.GetDatatype())
	return appendShape(append(dst, `,"shape":`...), output.GetShape())
}

func appendOutput(dst []byte, output *pb.ModelInferResponse_InferOutputTensor, raw []byte) ([]byte, error) {
	dst, err := appendParameters(appendDescription(dst, output), output.GetParameters())
	if err != nil {
		return dst, apierr.New(apierr.Unrepresentable, "output %q: %w; call by gRPC", output.GetName(), err)
	}
	dst = append(dst, `,"data":[`...)
	dst, err = appendData(dst, output, raw)
	return append(dst, "]}"...), err
}

func appendData(dst []byte, output *pb.ModelInferResponse_InferOutputTensor, raw []byte) ([]byte, error) {
	if err := CheckRaw(output.GetDatatype(), output.GetShape(), raw); err != nil {
		return dst, contradiction(output, err)
	}
	kind := datatypes[output.GetDatatype()]
	if kind.write == nil {
		return dst, apierr.New(apierr.Unrepresentable, "output %q: datatype %s has no JSON form; ask for binary data or call by gRPC", output.GetName(), output.GetDatatype())
	}
	for index := 0; len(raw) > 0; index++ {
		element, rest, err := kind.next(raw)
		if err != nil {
			return dst, contradiction(output, fmt.Errorf("element %d %w", index, err))
		}
		if index > 0 {
			dst = append(dst, ',')
		}
		if dst, err = kind.write(dst, element); err != nil {
			return dst, apierr.New(apierr.Unrepresentable, "output %q: element %d %w; ask for binary data or call by gRPC", output.GetName(), index, err)
		}
		raw = rest
	}
	return dst, nil
}

// next splits the first element off raw.
func (d datatype) next(raw []byte) (element, rest []byte, err error) {
	if d.size > 0 {
		return raw[:d.size], raw[d.size:], nil
	}
	if len(raw) < bytesLength {
		return nil, nil, errors.New("is missing")
	}
	length := int64(binary.LittleEndian.Uint32(raw))
	raw = raw[bytesLength:]
	if int64(len(raw)) < length {
		return nil, nil, fmt.Errorf("announces %d bytes, %d are left", length, len(raw))
	}
	return raw[:length], raw[length:], nil
}

// contradiction is the backend's fault: its answer says two things.
func contradiction(output *pb.ModelInferResponse_InferOutputTensor, err error) error {
	return apierr.New(apierr.Internal, "the backend's answer contradicts itself: output %q: %w", output.GetName(), err)
}

func appendShape(dst []byte, shape []int64) []byte {
	dst = append(dst, '[')
	for index, dimension := range shape {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, dimension, 10)
	}
	return append(dst, ']')
}
