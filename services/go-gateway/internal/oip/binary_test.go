package oip

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// binaryInput is an input whose data follows the JSON.
func binaryInput(name, datatype, shape, size string) string {
	return `{"name":"` + name + `","datatype":"` + datatype + `","shape":` + shape + `,"parameters":{"binary_data_size":` + size + `}}`
}

func TestDecodeTakesBinaryTensorsInTheOrderOfTheJSON(t *testing.T) {
	text := `{"inputs":[` + binaryInput("half", "FP16", "[2]", "4") + `,{"name":"json","datatype":"INT8","shape":[1],"data":[7]},` +
		binaryInput("words", "BYTES", "[2]", "10") + `,` + binaryInput("none", "FP32", "[0,3]", "0") + `,` + binaryInput("brain", "BF16", "[]", "2") + `]}`
	tensors := []byte("abcd" + "\x02\x00\x00\x00\xff\x00" + "\x00\x00\x00\x00" + "ef")
	request, _, err := DecodeInferRequest([]byte(text), tensors, "m", "")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{tensors[:4], {7}, tensors[4:14], {}, tensors[14:]}
	if got := request.GetRawInputContents(); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("raw contents %q, want %q", got, want)
	}
	if &request.GetRawInputContents()[0][0] != &tensors[0] {
		t.Error("the tensor was copied")
	}
	if cap(request.GetRawInputContents()[0]) != 4 {
		t.Error("who appends to a tensor writes over the next one")
	}
	for _, input := range request.GetInputs() {
		if len(input.GetParameters()) > 0 {
			t.Errorf("the backend is told %v", input.GetParameters())
		}
	}
}

func TestDecodeRefusesWrongBinaryTensors(t *testing.T) {
	for name, test := range map[string]struct{ inputs, tensors, code, want string }{
		"fewer bytes than announced":    {binaryInput("x", "INT8", "[4]", "4"), "abc", apierr.InvalidTensor, `input "x": binary_data_size is 4, but 3 bytes are left behind the JSON text, whose length is the header Inference-Header-Content-Length`},
		"more bytes than announced":     {binaryInput("x", "INT8", "[2]", "2"), "abc", apierr.InvalidRequest, `1 bytes follow the last binary tensor; each binary_data_size and the body's length must add up`},
		"another size than the shape":   {binaryInput("x", "FP32", "[2]", "4"), "abcd", apierr.InvalidTensor, `input "x": shape [2] needs 8 bytes of FP32, found 4`},
		"a size that wraps around":      {binaryInput("x", "INT8", "[1]", "9223372036854775807"), "a", apierr.InvalidTensor, `input "x": binary_data_size is 9223372036854775807, but 1 bytes are left behind the JSON text, whose length is the header Inference-Header-Content-Length`},
		"a shape beyond memory":         {binaryInput("x", "INT8", "[4294967296,4294967296]", "1"), "a", apierr.InvalidTensor, `input "x": shape [4294967296,4294967296] holds more elements than can be addressed`},
		"fewer BYTES than the shape":    {binaryInput("x", "BYTES", "[2]", "5"), "\x01\x00\x00\x00a", apierr.InvalidTensor, `input "x": element 1 is missing`},
		"BYTES that point past the end": {binaryInput("x", "BYTES", "[1]", "5"), "\x02\x00\x00\x00a", apierr.InvalidTensor, `input "x": element 0 announces 2 bytes, 1 are left`},
		"more BYTES than the shape":     {binaryInput("x", "BYTES", "[0]", "4"), "\x00\x00\x00\x00", apierr.InvalidTensor, `input "x": 4 bytes follow the last element`},
		"an unknown datatype":           {binaryInput("x", "FP8", "[1]", "1"), "a", apierr.InvalidTensor, `input "x": ` + unknownDatatype("FP8").Error()},
		"data both ways":                {strings.Replace(binaryInput("x", "INT8", "[1]", "1"), "{", `{"data":[1],`, 1), "a", apierr.InvalidTensor, `input "x": has both data and binary_data_size; send one of them`},
		"no tensor that was announced":  {`{"name":"x","datatype":"INT8","shape":[1],"data":[1]}`, "abc", apierr.InvalidRequest, `3 bytes follow the last binary tensor; each binary_data_size and the body's length must add up`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := DecodeInferRequest([]byte(`{"inputs":[`+test.inputs+`]}`), []byte(test.tensors), "m", "")
			failedWith(t, err, test.code, test.want)
		})
	}
}

func TestSplitBodyBelievesNoHeaderBeyondTheBody(t *testing.T) {
	for name, test := range map[string]struct{ length, text, tensors, refusal string }{
		"no header":           {"", "{}abc", "", ""},
		"a header":            {"2", "{}", "abc", ""},
		"nothing but tensors": {"0", "", "{}abc", ""},
		"nothing but JSON":    {"5", "{}abc", "", ""},
		"more than the body":  {"6", "", "", "header Inference-Header-Content-Length is 6, but the body has 5 bytes"},
		"a negative number":   {"-1", "", "", `header Inference-Header-Content-Length is "-1": must be the number of bytes of the JSON text`},
		"no number":           {"two", "", "", `header Inference-Header-Content-Length is "two": must be the number of bytes of the JSON text`},
	} {
		t.Run(name, func(t *testing.T) {
			text, tensors, err := SplitBody([]byte("{}abc"), test.length)
			if test.refusal != "" {
				failedWith(t, err, apierr.InvalidRequest, test.refusal)
			} else if err != nil || string(text) != test.text || string(tensors) != test.tensors {
				t.Errorf("got %q, %q and %v", text, tensors, err)
			}
		})
	}
}

func TestOutputsComeInTheFormThatIsAskedFor(t *testing.T) {
	for name, test := range map[string]struct{ request, want, tensors string }{
		"JSON by default":          {`{"inputs":[]}`, `{"name":"a","datatype":"INT8","shape":[2],"data":[97,98]},{"name":"b","datatype":"BYTES","shape":[1],"data":["c"]}`, ""},
		"all binary":               {`{"inputs":[],"parameters":{"binary_data_output":true}}`, `{"name":"a","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}},{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}`, "ab|\x01\x00\x00\x00c"},
		"one binary":               {`{"inputs":[],"outputs":[{"name":"b","parameters":{"binary_data":true}}]}`, `{"name":"a","datatype":"INT8","shape":[2],"data":[97,98]},{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}`, "\x01\x00\x00\x00c"},
		"all binary but one":       {`{"outputs":[{"name":"b","parameters":{"binary_data":false}}],"inputs":[],"parameters":{"binary_data_output":true}}`, `{"name":"a","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}},{"name":"b","datatype":"BYTES","shape":[1],"data":["c"]}`, "ab"},
		"binary that is not asked": {`{"inputs":[],"parameters":{"binary_data_output":false},"outputs":[{"name":"a"}]}`, `{"name":"a","datatype":"INT8","shape":[2],"data":[97,98]},{"name":"b","datatype":"BYTES","shape":[1],"data":["c"]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			request, binary, err := DecodeInferRequest([]byte(test.request), nil, "m", "")
			if err != nil {
				t.Fatal(err)
			}
			if len(request.GetParameters()) > 0 {
				t.Errorf("the backend is told %v", request.GetParameters())
			}
			response := &pb.ModelInferResponse{
				ModelName: "m",
				Outputs: []*pb.ModelInferResponse_InferOutputTensor{
					{Name: "a", Datatype: "INT8", Shape: []int64{2}}, {Name: "b", Datatype: "BYTES", Shape: []int64{1}},
				},
				RawOutputContents: [][]byte{[]byte("ab"), []byte("\x01\x00\x00\x00c")},
			}
			text, tensors, err := AppendInferResponse(nil, response, binary)
			if err != nil {
				t.Fatal(err)
			}
			if want := `{"model_name":"m","outputs":[` + test.want + `]}`; string(text) != want {
				t.Errorf("got  %s\nwant %s", text, want)
			}
			if got := string(bytes.Join(tensors, []byte("|"))); got != test.tensors {
				t.Errorf("got tensors %q, want %q", got, test.tensors)
			}
		})
	}
}

func TestBinaryOutputsKeepTheirParametersAndAreChecked(t *testing.T) {
	response := answerOf("FP16", []int64{1}, []byte{1, 2})
	response.Outputs[0].Parameters = map[string]*pb.InferParameter{"k": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}}}
	text, tensors, err := AppendInferResponse(nil, response, AllBinary)
	const want = `{"model_name":"m","outputs":[{"name":"y","datatype":"FP16","shape":[1],"parameters":{"binary_data_size":2,"k":true}}]}`
	if err != nil || string(text) != want || len(tensors) != 1 {
		t.Errorf("got %s with %d tensors and %v, want %s", text, len(tensors), err, want)
	}
	response.Outputs[0].Shape[0] = 2
	_, _, err = AppendInferResponse(nil, response, AllBinary)
	failedWith(t, err, apierr.Internal, `the backend's answer contradicts itself: output "y": shape [2] needs 4 bytes of FP16, found 2`)
}

func modelOf(datatype string, shapes ...[]int64) *pb.ModelMetadataResponse {
	model := &pb.ModelMetadataResponse{Name: "m"}
	for _, shape := range shapes {
		model.Inputs = append(model.Inputs, &pb.ModelMetadataResponse_TensorMetadata{Name: "x", Datatype: datatype, Shape: shape})
	}
	return model
}

func TestRawRequestIsTheOnlyInput(t *testing.T) {
	for name, test := range map[string]struct {
		datatype        string
		declared, shape []int64
		body, raw       string
	}{
		"a fixed shape":                {"INT16", []int64{2, 2}, []int64{2, 2}, "12345678", "12345678"},
		"rows that vary":               {"FP32", []int64{-1, 2}, []int64{1, 2}, "12345678", "12345678"},
		"rows and columns that vary":   {"FP32", []int64{-1, -1}, []int64{1, 2}, "12345678", "12345678"},
		"a dimension within that does": {"UINT8", []int64{1, -1, 4}, []int64{1, 2, 4}, "12345678", "12345678"},
		"no dimension":                 {"FP64", nil, []int64{}, "12345678", "12345678"},
		"nothing":                      {"FP64", []int64{-1}, []int64{0}, "", ""},
		"one element of BYTES":         {"BYTES", []int64{-1, 1}, []int64{1, 1}, "a\x00b", "\x03\x00\x00\x00a\x00b"},
		"an empty element of BYTES":    {"BYTES", []int64{1}, []int64{1}, "", "\x00\x00\x00\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := DecodeRawRequest([]byte(test.body), modelOf(test.datatype, test.declared), "m", "3")
			if err != nil {
				t.Fatal(err)
			}
			want := &pb.ModelInferRequest{
				ModelName: "m", ModelVersion: "3", RawInputContents: [][]byte{[]byte(test.raw)},
				Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: test.datatype, Shape: test.shape}},
			}
			if !proto.Equal(request, want) {
				t.Errorf("got %v\nwant %v", request, want)
			}
		})
	}
}

func TestRawRequestThatDoesNotFitIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		model      *pb.ModelMetadataResponse
		code, want string
	}{
		"two inputs":              {modelOf("INT8", []int64{8}, []int64{8}), apierr.InvalidRequest, `model "m" has 2 inputs; a body without JSON (Inference-Header-Content-Length: 0) can only be the input of a model that has one`},
		"no input":                {modelOf("INT8"), apierr.InvalidRequest, `model "m" has 0 inputs; a body without JSON (Inference-Header-Content-Length: 0) can only be the input of a model that has one`},
		"part of an element":      {modelOf("FP64", []int64{-1}), apierr.InvalidTensor, `input "x": the body has 9 bytes, which is no whole number of elements of FP64 (8 bytes each)`},
		"too much":                {modelOf("INT8", []int64{8}), apierr.InvalidTensor, `input "x": 9 elements do not fill the model's shape [8]`},
		"part of a row":           {modelOf("INT8", []int64{-1, 2}), apierr.InvalidTensor, `input "x": 9 elements do not fill the model's shape [-1,2]`},
		"several BYTES":           {modelOf("BYTES", []int64{-1, 2}), apierr.InvalidTensor, `input "x": 1 elements do not fill the model's shape [-1,2]`},
		"a shape beyond memory":   {modelOf("INT8", []int64{1 << 40, 1 << 40}), apierr.InvalidTensor, `input "x": the model's shape [1099511627776,1099511627776] holds more elements than can be addressed`},
		"a shape without content": {modelOf("INT8", []int64{-1, 0}), apierr.InvalidTensor, `input "x": 9 elements do not fill the model's shape [-1,0]`},
		"an unknown datatype":     {modelOf("FP8", []int64{1}), apierr.Internal, `the backend describes input "x" with an unknown datatype, "FP8"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeRawRequest([]byte("123456789"), test.model, "m", "")
			failedWith(t, err, test.code, test.want)
		})
	}
}
