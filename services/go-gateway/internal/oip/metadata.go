package oip

import (
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// AppendLive appends the answer to GET /v2/health/live.
func AppendLive(dst []byte) []byte {
	return append(dst, `{"live":true}`...)
}

// AppendReady appends the answer to GET /v2/health/ready of a server that is ready.
func AppendReady(dst []byte) []byte {
	return append(dst, `{"ready":true}`...)
}

// AppendModelReady appends the answer to GET /v2/models/{model}/ready of a model that is ready.
func AppendModelReady(dst []byte, model string) []byte {
	return append(appendField(dst, `{"name":`, model), `,"ready":true}`...)
}

// AppendServerMetadata appends the answer to GET /v2.
func AppendServerMetadata(dst []byte, server *pb.ServerMetadataResponse) []byte {
	dst = appendField(dst, `{"name":`, server.GetName())
	dst = appendField(dst, `,"version":`, server.GetVersion())
	return append(appendStrings(dst, `,"extensions":`, server.GetExtensions()), '}')
}

// AppendModelMetadata appends the answer to GET /v2/models/{model}; a dimension of -1 varies.
func AppendModelMetadata(dst []byte, model *pb.ModelMetadataResponse) []byte {
	dst = appendField(dst, `{"name":`, model.GetName())
	dst = appendStrings(dst, `,"versions":`, model.GetVersions())
	dst = appendField(dst, `,"platform":`, model.GetPlatform())
	dst = appendTensors(dst, `,"inputs":`, model.GetInputs())
	return append(appendTensors(dst, `,"outputs":`, model.GetOutputs()), '}')
}

func appendTensors(dst []byte, before string, tensors []*pb.ModelMetadataResponse_TensorMetadata) []byte {
	dst = append(append(dst, before...), '[')
	for index, tensor := range tensors {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, `{"name":`, tensor.GetName())
		dst = appendField(dst, `,"datatype":`, tensor.GetDatatype())
		dst = append(appendShape(append(dst, `,"shape":`...), tensor.GetShape()), '}')
	}
	return append(dst, ']')
}

func appendStrings(dst []byte, before string, values []string) []byte {
	dst = append(append(dst, before...), '[')
	for index, value := range values {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, []byte(value))
	}
	return append(dst, ']')
}
