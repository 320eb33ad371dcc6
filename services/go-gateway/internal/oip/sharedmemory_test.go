package oip

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	inRegion  = `"parameters":{"shared_memory_region":"r","shared_memory_byte_size":8,"shared_memory_offset":16}`
	described = `{"name":"x","datatype":"FP32","shape":[2],` + inRegion
)

func region() map[string]*pb.InferParameter {
	number := func(value int64) *pb.InferParameter {
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: value}}
	}
	return map[string]*pb.InferParameter{
		"shared_memory_region":    {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "r"}},
		"shared_memory_byte_size": number(8),
		"shared_memory_offset":    number(16),
	}
}

func TestTensorInSharedMemoryHasNoDataInTheRequest(t *testing.T) {
	body := `{"inputs":[` + described + `},{"name":"y","datatype":"UINT8","shape":[1],"data":[7]}],"outputs":[{"name":"z",` + inRegion + `}]}`
	got, _, err := DecodeInferRequest([]byte(body), nil, "m", "")
	want := &pb.ModelInferRequest{
		ModelName: "m",
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "x", Datatype: "FP32", Shape: []int64{2}, Parameters: region()}, {Name: "y", Datatype: "UINT8", Shape: []int64{1}},
		},
		Outputs:          []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "z", Parameters: region()}},
		RawInputContents: [][]byte{{7}},
	}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestTensorInSharedMemoryWithDataIsRefused(t *testing.T) {
	for _, body := range []string{
		`{"inputs":[` + described + `,"data":[1,2]}]}`,
		`{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"shared_memory_region":"r","binary_data_size":8}}]}`,
	} {
		_, _, err := DecodeInferRequest([]byte(body), make([]byte, 8), "m", "")
		var failure *apierr.Error
		if !errors.As(err, &failure) || failure.Message != `input "x": lies in shared memory and has data; send one of them` {
			t.Errorf("got %v", err)
		}
	}
}

func TestOutputInSharedMemoryHasNoDataInTheAnswer(t *testing.T) {
	response := &pb.ModelInferResponse{
		ModelName: "m",
		Outputs: []*pb.ModelInferResponse_InferOutputTensor{
			{Name: "x", Datatype: "FP32", Shape: []int64{2}, Parameters: region()}, {Name: "y", Datatype: "UINT8", Shape: []int64{1}},
		},
		RawOutputContents: [][]byte{{}, {7}},
	}
	const other = `{"model_name":"m","outputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":` +
		`{"shared_memory_byte_size":8,"shared_memory_offset":16,"shared_memory_region":"r"}},{"name":"y","datatype":"UINT8","shape":[1],`
	for want, binary := range map[string]BinaryOutputs{
		other + `"data":[7]}]}`:                          {},
		other + `"parameters":{"binary_data_size":1}}]}`: AllBinary,
	} {
		got, tensors, err := AppendInferResponse(nil, response, binary)
		if err != nil || string(got) != want || len(tensors) > 1 {
			t.Errorf("got %s with %d tensors, %v\nwant %s", got, len(tensors), err, want)
		}
	}
}
