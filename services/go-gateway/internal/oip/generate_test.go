package oip

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// languageModel takes a text, rows of numbers, a scalar and halves.
func languageModel() *pb.ModelMetadataResponse {
	return &pb.ModelMetadataResponse{Inputs: []*pb.ModelMetadataResponse_TensorMetadata{
		{Name: "text_input", Datatype: "BYTES", Shape: []int64{-1}},
		{Name: "tokens", Datatype: "INT32", Shape: []int64{-1, -1, 2}},
		{Name: "scale", Datatype: "FP32", Shape: nil},
		{Name: "half", Datatype: "FP16", Shape: []int64{1}},
	}}
}

func TestGenerateRequestBecomesInputsByNameAndParameters(t *testing.T) {
	text := `{"text_input":"é","id":"7","stream":true,"parameters":{"temperature":0.5,"tokens":[1,2,3,4],"stop":"x"},"scale":2,"seed":-1}`
	got, err := DecodeGenerateRequest([]byte(text), languageModel(), "m", "2")
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.ModelInferRequest{
		ModelName: "m", ModelVersion: "2", Id: "7",
		Parameters: map[string]*pb.InferParameter{
			"stream":      {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"temperature": {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 0.5}},
			"stop":        {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "x"}},
			"seed":        {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: -1}},
		},
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "text_input", Datatype: "BYTES", Shape: []int64{1}},
			{Name: "tokens", Datatype: "INT32", Shape: []int64{1, 2, 2}},
			{Name: "scale", Datatype: "FP32"},
		},
		RawInputContents: [][]byte{[]byte("\x02\x00\x00\x00é"), raw(t, []int32{1, 2, 3, 4}), raw(t, float32(2))},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestGenerateRequestMayNameInputsLikeItsOwnFields(t *testing.T) {
	model := &pb.ModelMetadataResponse{Inputs: []*pb.ModelMetadataResponse_TensorMetadata{
		{Name: "id", Datatype: "INT8", Shape: []int64{1}}, {Name: "parameters", Datatype: "INT8", Shape: []int64{2}},
	}}
	got, err := DecodeGenerateRequest([]byte(`{"id":1,"parameters":[2,3]}`), model, "m", "")
	if err != nil || len(got.GetInputs()) != 2 || got.GetId() != "" || len(got.GetParameters()) != 0 {
		t.Errorf("got %v and %v, want two inputs", got, err)
	}
}

func TestGenerateRequestsThatDoNotFitAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, code, want string }{
		"no object":               {`[]`, apierr.InvalidRequest, "the body must be an object"},
		"more behind":             {`{} {}`, apierr.InvalidRequest, "the body is not valid JSON: byte 3: found '{' where the end should be"},
		"another type":            {`{"text_input":1}`, apierr.InvalidTensor, `input "text_input": value must be a string`},
		"another type in a list":  {`{"tokens":[1,"2"]}`, apierr.InvalidTensor, `input "tokens": data[1] must be an integer`},
		"rows":                    {`{"tokens":[[1,2]]}`, apierr.InvalidTensor, `input "tokens": data[0] must be an integer`},
		"half a row":              {`{"tokens":[1,2,3]}`, apierr.InvalidTensor, `input "tokens": 3 elements do not fill the model's shape [-1,-1,2]`},
		"several for one":         {`{"scale":[1,2]}`, apierr.InvalidTensor, `input "scale": 2 elements do not fill the model's shape []`},
		"no JSON form":            {`{"half":1}`, apierr.InvalidTensor, `input "half": datatype FP16 has no JSON form; send it as binary data or call by gRPC`},
		"null":                    {`{"text_input":null}`, apierr.InvalidTensor, `input "text_input": value must be a string`},
		"a list for a parameter":  {`{"stop":["x"]}`, apierr.InvalidRequest, "stop must be a boolean, a number or a string"},
		"an object for one":       {`{"parameters":{"stop":{}}}`, apierr.InvalidRequest, "parameters.stop must be a boolean, a number or a string"},
		"parameters of no object": {`{"parameters":1}`, apierr.InvalidRequest, "parameters must be an object"},
		"an id of no text":        {`{"id":1}`, apierr.InvalidRequest, "id must be a string"},
		"an input given twice":    {`{"text_input":"a","parameters":{"text_input":"b"}}`, apierr.InvalidRequest, "parameters.text_input is given twice"},
		"syntax within a tensor":  {`{"text_input":"\x"}`, apierr.InvalidRequest, "the body is not valid JSON: byte 16: found 'x' where an escape should be"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeGenerateRequest([]byte(test.text), languageModel(), "m", "")
			failedWith(t, err, test.code, test.want)
		})
	}
}

func TestGenerateResponseIsFlat(t *testing.T) {
	response := &pb.ModelInferResponse{
		ModelName: "m", ModelVersion: "2", Id: "7",
		Parameters: map[string]*pb.InferParameter{
			"triton_final_response": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"score":                 {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 0.5}},
			"text_output":           {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"model_name":            {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
		},
		Outputs: []*pb.ModelInferResponse_InferOutputTensor{
			{Name: "text_output", Datatype: "BYTES", Shape: []int64{1, 1}}, {Name: "tokens", Datatype: "INT8", Shape: []int64{1, 2}}, {Name: "none", Datatype: "INT8", Shape: []int64{0}},
		},
		RawOutputContents: [][]byte{[]byte("\x01\x00\x00\x00\n"), {1, 2}, {}},
	}
	const want = `{"id":"7","model_name":"m","model_version":"2","text_output":"\n","tokens":[1,2],"none":[],"score":0.5}`
	if got, err := AppendGenerateResponse(nil, response); err != nil || string(got) != want {
		t.Errorf("got %s and %v\nwant %s", got, err, want)
	}
	if EndsStream(response) {
		t.Error("a response with outputs is taken for the mark of the end")
	}
}

func TestGenerateResponseFailsAsThatOfInferDoes(t *testing.T) {
	_, err := AppendGenerateResponse(nil, answerOf("FP32", []int64{1}, raw(t, float32(math.NaN()))))
	failedWith(t, err, apierr.Unrepresentable, `output "y": element 0 is NaN, which JSON cannot say; ask for binary data or call by gRPC`)
	_, err = AppendGenerateResponse(nil, answerOf("FP32", []int64{2}, []byte{1}))
	failedWith(t, err, apierr.Internal, `the backend's answer contradicts itself: output "y": shape [2] needs 8 bytes of FP32, found 1`)
	miscounted := answerOf("INT8", []int64{1}, []byte{1})
	miscounted.RawOutputContents = append(miscounted.RawOutputContents, nil)
	_, err = AppendGenerateResponse(nil, miscounted)
	failedWith(t, err, apierr.Internal, "the backend answered 1 outputs with 2 raw contents")
}
