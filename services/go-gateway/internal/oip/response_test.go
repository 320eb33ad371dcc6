package oip

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// answerOf is a response of one output y.
func answerOf(datatype string, shape []int64, raw []byte) *pb.ModelInferResponse {
	return &pb.ModelInferResponse{
		ModelName:         "m",
		Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "y", Datatype: datatype, Shape: shape}},
		RawOutputContents: [][]byte{raw},
	}
}

func TestAppendWritesEveryDatatype(t *testing.T) {
	for name, test := range map[string]struct {
		datatype string
		shape    []int64
		raw      []byte
		want     string
	}{
		"booleans":                  {"BOOL", []int64{3}, []byte{0, 1, 2}, "[false,true,true]"},
		"UINT8":                     {"UINT8", []int64{2}, []byte{0, 255}, "[0,255]"},
		"UINT16":                    {"UINT16", []int64{1}, raw(t, []uint16{math.MaxUint16}), "[65535]"},
		"UINT32":                    {"UINT32", []int64{1}, raw(t, []uint32{math.MaxUint32}), "[4294967295]"},
		"UINT64 exactly":            {"UINT64", []int64{1}, raw(t, []uint64{math.MaxUint64}), "[18446744073709551615]"},
		"INT8":                      {"INT8", []int64{2}, raw(t, []int8{-128, 127}), "[-128,127]"},
		"INT16":                     {"INT16", []int64{2}, raw(t, []int16{-32768, 32767}), "[-32768,32767]"},
		"INT32":                     {"INT32", []int64{2}, raw(t, []int32{math.MinInt32, math.MaxInt32}), "[-2147483648,2147483647]"},
		"INT64 exactly":             {"INT64", []int64{2}, raw(t, []int64{math.MinInt64, 1<<53 + 1}), "[-9223372036854775808,9007199254740993]"},
		"FP32 in its shortest form": {"FP32", []int64{4}, raw(t, []float32{0.1, 1, 1e-7, 3.4028235e38}), "[0.1,1,1e-07,3.4028235e+38]"},
		"FP64 in its shortest form": {"FP64", []int64{3}, raw(t, []float64{0.1, 1e21, math.Copysign(0, -1)}), "[0.1,1e+21,-0.0]"},
		"BYTES as escaped text":     {"BYTES", []int64{3}, []byte("\x00\x00\x00\x00" + "\x03\x00\x00\x00é\x00" + "\x06\x00\x00\x00\"\\\n\r\t\x7f"), "[\"\",\"é\\u0000\",\"\\\"\\\\\\n\\r\\t\x7f\"]"},
		"dimensions flat":           {"INT8", []int64{2, 2}, []byte{1, 2, 3, 4}, "[1,2,3,4]"},
		"a scalar":                  {"INT8", nil, []byte{7}, "[7]"},
		"no elements":               {"BYTES", []int64{0, 4}, nil, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			text, _, err := AppendInferResponse(nil, answerOf(test.datatype, test.shape, test.raw), BinaryOutputs{})
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Outputs []struct{ Data json.RawMessage }
			}
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if string(got.Outputs[0].Data) != test.want {
				t.Errorf("data %s, want %s", got.Outputs[0].Data, test.want)
			}
		})
	}
}

func TestAppendWritesTheWholeEnvelope(t *testing.T) {
	response := &pb.ModelInferResponse{
		ModelName: "digits", ModelVersion: "1", Id: "7",
		Parameters: map[string]*pb.InferParameter{
			"z": {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 2}},
			"a": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"d": {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 0.5}},
			"i": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: -3}},
			"s": {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "x"}},
			"u": {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: math.MaxUint64}},
		},
		Outputs: []*pb.ModelInferResponse_InferOutputTensor{
			{Name: "a", Datatype: "INT8", Shape: []int64{1, 2}, Parameters: map[string]*pb.InferParameter{"k": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 1}}}},
			{Name: "b", Datatype: "BOOL", Shape: []int64{1}},
		},
		RawOutputContents: [][]byte{{1, 2}, {1}},
	}
	text, _, err := AppendInferResponse([]byte("before "), response, BinaryOutputs{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `before {"model_name":"digits","model_version":"1","id":"7","parameters":{"a":true,"d":0.5,"i":-3,"s":"x","u":18446744073709551615,"z":2.0},` +
		`"outputs":[{"name":"a","datatype":"INT8","shape":[1,2],"parameters":{"k":1},"data":[1,2]},{"name":"b","datatype":"BOOL","shape":[1],"data":[true]}]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestAppendReadsTypedContents(t *testing.T) {
	for datatype, test := range map[string]struct {
		contents *pb.InferTensorContents
		want     string
	}{
		"BOOL":   {&pb.InferTensorContents{BoolContents: []bool{true, false}}, "[true,false]"},
		"INT8":   {&pb.InferTensorContents{IntContents: []int32{-128, 127}}, "[-128,127]"},
		"INT16":  {&pb.InferTensorContents{IntContents: []int32{-32768, 32767}}, "[-32768,32767]"},
		"INT32":  {&pb.InferTensorContents{IntContents: []int32{math.MinInt32, math.MaxInt32}}, "[-2147483648,2147483647]"},
		"INT64":  {&pb.InferTensorContents{Int64Contents: []int64{math.MinInt64, math.MaxInt64}}, "[-9223372036854775808,9223372036854775807]"},
		"UINT8":  {&pb.InferTensorContents{UintContents: []uint32{0, 255}}, "[0,255]"},
		"UINT16": {&pb.InferTensorContents{UintContents: []uint32{0, 65535}}, "[0,65535]"},
		"UINT32": {&pb.InferTensorContents{UintContents: []uint32{0, math.MaxUint32}}, "[0,4294967295]"},
		"UINT64": {&pb.InferTensorContents{Uint64Contents: []uint64{0, math.MaxUint64}}, "[0,18446744073709551615]"},
		"FP32":   {&pb.InferTensorContents{Fp32Contents: []float32{0.5, -1}}, "[0.5,-1]"},
		"FP64":   {&pb.InferTensorContents{Fp64Contents: []float64{0.1, 1e300}}, "[0.1,1e+300]"},
		"BYTES":  {&pb.InferTensorContents{BytesContents: [][]byte{[]byte("a"), nil}}, `["a",""]`},
	} {
		t.Run(datatype, func(t *testing.T) {
			response := answerOf(datatype, []int64{2}, nil)
			response.RawOutputContents = nil
			response.Outputs[0].Contents = test.contents
			text, _, err := AppendInferResponse(nil, response, BinaryOutputs{})
			if err != nil {
				t.Fatal(err)
			}
			want := `{"model_name":"m","outputs":[{"name":"y","datatype":"` + datatype + `","shape":[2],"data":` + test.want + `}]}`
			if string(text) != want {
				t.Errorf("got  %s\nwant %s", text, want)
			}
		})
	}
}

func TestAppendFailsWhereJSONCannotSayTheResult(t *testing.T) {
	nan := answerOf("INT8", []int64{0}, nil)
	nan.Parameters = map[string]*pb.InferParameter{"score": {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: math.NaN()}}}
	empty := answerOf("INT8", []int64{0}, nil)
	empty.Outputs[0].Parameters = map[string]*pb.InferParameter{"later": {}}
	for name, test := range map[string]struct {
		response *pb.ModelInferResponse
		want     string
	}{
		"NaN":                       {answerOf("FP32", []int64{2}, raw(t, []float32{1, float32(math.NaN())})), `output "y": element 1 is NaN, which JSON cannot say; ask for binary data or call by gRPC`},
		"infinity":                  {answerOf("FP64", []int64{1}, raw(t, []float64{math.Inf(1)})), `output "y": element 0 is +Inf, which JSON cannot say; ask for binary data or call by gRPC`},
		"minus infinity":            {answerOf("FP64", []int64{1}, raw(t, []float64{math.Inf(-1)})), `output "y": element 0 is -Inf, which JSON cannot say; ask for binary data or call by gRPC`},
		"bytes that are not text":   {answerOf("BYTES", []int64{1}, []byte("\x01\x00\x00\x00\xff")), `output "y": element 0 is not UTF-8 text, which JSON strings must be; ask for binary data or call by gRPC`},
		"FP16":                      {answerOf("FP16", []int64{1}, []byte{0, 0}), `output "y": datatype FP16 has no JSON form; ask for binary data or call by gRPC`},
		"BF16":                      {answerOf("BF16", []int64{1}, []byte{0, 0}), `output "y": datatype BF16 has no JSON form; ask for binary data or call by gRPC`},
		"NaN in a parameter":        {nan, `parameter "score" is NaN, which JSON cannot say; call by gRPC`},
		"a parameter of a new kind": {empty, `output "y": parameter "later" has no value; call by gRPC`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := AppendInferResponse(nil, test.response, BinaryOutputs{})
			failedWith(t, err, apierr.Unrepresentable, test.want)
		})
	}
}

func TestAppendFailsWhereTheBackendContradictsItself(t *testing.T) {
	miscounted := answerOf("INT8", []int64{1}, []byte{1})
	miscounted.RawOutputContents = append(miscounted.RawOutputContents, nil)
	overflowing, negative := answerOf("INT8", []int64{1}, nil), answerOf("UINT8", []int64{1}, nil)
	overflowing.RawOutputContents, negative.RawOutputContents = nil, nil
	overflowing.Outputs[0].Contents = &pb.InferTensorContents{IntContents: []int32{128}}
	negative.Outputs[0].Contents = &pb.InferTensorContents{UintContents: []uint32{256}}
	absent := answerOf("FP32", []int64{1}, nil)
	absent.RawOutputContents = nil
	const prefix = `the backend's answer contradicts itself: output "y": `
	for name, test := range map[string]struct {
		response *pb.ModelInferResponse
		want     string
	}{
		"more raw contents than outputs": {miscounted, "the backend answered 1 outputs with 2 raw contents"},
		"too few bytes":                  {answerOf("FP32", []int64{2}, make([]byte, 4)), prefix + "shape [2] needs 8 bytes of FP32, found 4"},
		"too many bytes":                 {answerOf("INT8", []int64{1}, make([]byte, 4)), prefix + "shape [1] needs 1 bytes of INT8, found 4"},
		"no contents at all":             {absent, prefix + "shape [1] needs 4 bytes of FP32, found 0"},
		"a dimension that varies":        {answerOf("INT8", []int64{-1}, nil), prefix + "shape [-1] has a negative dimension"},
		"an unknown datatype":            {answerOf("FP8", []int64{1}, []byte{1}), prefix + unknownDatatype("FP8").Error()},
		"BYTES without the next length":  {answerOf("BYTES", []int64{2}, []byte("\x01\x00\x00\x00a\x01")), prefix + "element 1 is missing"},
		"BYTES cut short":                {answerOf("BYTES", []int64{1}, []byte("\xff\xff\xff\xffa")), prefix + "element 0 announces 4294967295 bytes, 1 are left"},
		"BYTES with more behind":         {answerOf("BYTES", []int64{1}, []byte("\x00\x00\x00\x00a")), prefix + "1 bytes follow the last element"},
		"a typed INT8 that is none":      {overflowing, prefix + "element 0 is 128, out of range for INT8"},
		"a typed UINT8 that is none":     {negative, prefix + "element 0 is 256, out of range for UINT8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := AppendInferResponse(nil, test.response, BinaryOutputs{})
			failedWith(t, err, apierr.Internal, test.want)
		})
	}
}

func failedWith(t *testing.T, err error, code, message string) {
	t.Helper()
	var failure *apierr.Error
	if !errors.As(err, &failure) {
		t.Fatalf("got error %v, want an *apierr.Error", err)
	}
	if failure.Code != code || failure.Message != message {
		t.Errorf("got %s %q\nwant %s %q", failure.Code, failure.Message, code, message)
	}
}

func TestMetadataIsWrittenWithoutNulls(t *testing.T) {
	tensor := &pb.ModelMetadataResponse_TensorMetadata{Name: "x", Datatype: "FP32", Shape: []int64{-1, 64}}
	for name, test := range map[string]struct{ got, want string }{
		"live":        {string(AppendLive(nil)), `{"live":true}`},
		"ready":       {string(AppendReady(nil)), `{"ready":true}`},
		"model ready": {string(AppendModelReady(nil, `a"b`)), `{"name":"a\"b","ready":true}`},
		"server": {
			string(AppendServerMetadata(nil, &pb.ServerMetadataResponse{Name: "polyglot", Version: "1.2", Extensions: []string{"a", "b"}})),
			`{"name":"polyglot","version":"1.2","extensions":["a","b"]}`,
		},
		"server without extensions": {string(AppendServerMetadata(nil, &pb.ServerMetadataResponse{})), `{"name":"","version":"","extensions":[]}`},
		"model": {
			string(AppendModelMetadata(nil, &pb.ModelMetadataResponse{
				Name: "digits", Versions: []string{"1"}, Platform: "onnx",
				Inputs: []*pb.ModelMetadataResponse_TensorMetadata{tensor, tensor}, Outputs: []*pb.ModelMetadataResponse_TensorMetadata{tensor},
			})),
			`{"name":"digits","versions":["1"],"platform":"onnx","inputs":[{"name":"x","datatype":"FP32","shape":[-1,64]},{"name":"x","datatype":"FP32","shape":[-1,64]}],` +
				`"outputs":[{"name":"x","datatype":"FP32","shape":[-1,64]}]}`,
		},
		"model of nothing": {string(AppendModelMetadata(nil, &pb.ModelMetadataResponse{})), `{"name":"","versions":[],"platform":"","inputs":[],"outputs":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("got  %s\nwant %s", test.got, test.want)
			}
		})
	}
}
