package oip

import (
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// raw is the little-endian form of numbers of a fixed size.
func raw(t *testing.T, values any) []byte {
	t.Helper()
	text, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func body(datatype, shape, data string) string {
	return `{"inputs":[{"name":"x","datatype":"` + datatype + `","shape":` + shape + `,"data":` + data + `}]}`
}

func TestDecodeReadsEveryDatatype(t *testing.T) {
	for name, test := range map[string]struct {
		datatype, shape, data string
		want                  []byte
	}{
		"booleans":                   {"BOOL", "[3]", "[true,false,true]", []byte{1, 0, 1}},
		"UINT8 at its bounds":        {"UINT8", "[2]", "[0,255]", []byte{0, 255}},
		"UINT16 at its bounds":       {"UINT16", "[2]", "[0,65535]", raw(t, []uint16{0, math.MaxUint16})},
		"UINT32 at its bounds":       {"UINT32", "[2]", "[0,4294967295]", raw(t, []uint32{0, math.MaxUint32})},
		"UINT64 at its bounds":       {"UINT64", "[2]", "[0,18446744073709551615]", raw(t, []uint64{0, math.MaxUint64})},
		"INT8 at its bounds":         {"INT8", "[2]", "[-128,127]", raw(t, []int8{math.MinInt8, math.MaxInt8})},
		"INT16 at its bounds":        {"INT16", "[2]", "[-32768,32767]", raw(t, []int16{math.MinInt16, math.MaxInt16})},
		"INT32 at its bounds":        {"INT32", "[2]", "[-2147483648,2147483647]", raw(t, []int32{math.MinInt32, math.MaxInt32})},
		"INT64 exactly":              {"INT64", "[3]", "[-9223372036854775808,9007199254740993,9223372036854775807]", raw(t, []int64{math.MinInt64, 1<<53 + 1, math.MaxInt64})},
		"FP32 rounded to nearest":    {"FP32", "[4]", "[0.1,-0,16777217,3.4028235e38]", raw(t, []float32{0.1, float32(math.Copysign(0, -1)), 16777216, math.MaxFloat32})},
		"FP64 with every notation":   {"FP64", "[4]", "[1,1.5,1e-3,-2E+2]", raw(t, []float64{1, 1.5, 1e-3, -200})},
		"BYTES with escapes":         {"BYTES", "[5]", `["","é","a\u0000b","\ud83d\ude00\ufffd","\"\\\/\b\f\n\r\t"]`, []byte("\x00\x00\x00\x00" + "\x02\x00\x00\x00é" + "\x03\x00\x00\x00a\x00b" + "\x07\x00\x00\x00😀\uFFFD" + "\x08\x00\x00\x00\"\\/\b\f\n\r\t")},
		"nested as the shape":        {"INT8", "[2,1,2]", "[[[1,2]],[[3,4]]]", []byte{1, 2, 3, 4}},
		"flat in row-major order":    {"INT8", "[2,1,2]", "[1,2,3,4]", []byte{1, 2, 3, 4}},
		"with space anywhere":        {"INT8", " [ 2 ] ", " [ 1 ,\n\t2\r] ", []byte{1, 2}},
		"a scalar as one element":    {"INT8", "[]", "7", []byte{7}},
		"a scalar in an array":       {"INT8", "[]", "[7]", []byte{7}},
		"no elements flat":           {"INT8", "[2,0]", "[]", []byte{}},
		"no elements nested":         {"INT8", "[2,0]", "[[],[]]", []byte{}},
		"no rows of several columns": {"BYTES", "[0,3]", "[]", []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			request, _, err := DecodeInferRequest([]byte(body(test.datatype, test.shape, test.data)), nil, "m", "1")
			if err != nil {
				t.Fatal(err)
			}
			if got := request.GetRawInputContents(); len(got) != 1 || !slices.Equal(got[0], test.want) {
				t.Errorf("raw contents %x, want %x", got, test.want)
			}
		})
	}
}

func TestDecodeKeepsTheWholeEnvelope(t *testing.T) {
	text := `{"id":"7","parameters":{"timeout":5000,"big":18446744073709551615,"share":0.5,"flag":true,"who":"ann","binary_data_output":true},
		"unknown":{"deep":[1,{"x":null}]},
		"inputs":[{"data":[1],"shape":[1],"datatype":"INT8","name":"a","parameters":{"k":-1}},{"name":"b","datatype":"BYTES","shape":[1],"data":["x"]}],
		"outputs":[{"name":"y","parameters":{"classification":3,"binary_data":false}},{"name":"z","later":1}]}`
	request, _, err := DecodeInferRequest([]byte(text), nil, "digits", "1")
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.ModelInferRequest{
		ModelName:    "digits",
		ModelVersion: "1",
		Id:           "7",
		Parameters: map[string]*pb.InferParameter{
			"timeout": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 5000}},
			"big":     {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: math.MaxUint64}},
			"share":   {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 0.5}},
			"flag":    {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"who":     {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "ann"}},
		},
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "a", Datatype: "INT8", Shape: []int64{1}, Parameters: map[string]*pb.InferParameter{"k": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: -1}}}},
			{Name: "b", Datatype: "BYTES", Shape: []int64{1}},
		},
		Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{
			{Name: "y", Parameters: map[string]*pb.InferParameter{"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 3}}}},
			{Name: "z"},
		},
		RawInputContents: [][]byte{{1}, []byte("\x01\x00\x00\x00x")},
	}
	if !proto.Equal(request, want) {
		t.Errorf("got %v\nwant %v", request, want)
	}
}

func TestDecodeRefusesWrongTensors(t *testing.T) {
	for name, test := range map[string]struct{ datatype, shape, data, want string }{
		"an integer above UINT8":           {"UINT8", "[2]", "[0,256]", `input "x": data[1] is 256: out of range for UINT8 (0 to 255)`},
		"a negative unsigned integer":      {"UINT64", "[1]", "[-1]", `input "x": data[0] is -1: out of range for UINT64 (0 to 18446744073709551615)`},
		"an integer below INT8":            {"INT8", "[1]", "[-129]", `input "x": data[0] is -129: out of range for INT8 (-128 to 127)`},
		"an integer above INT64":           {"INT64", "[1]", "[9223372036854775808]", `input "x": data[0] is 9223372036854775808: out of range for INT64 (-9223372036854775808 to 9223372036854775807)`},
		"a fraction for an integer":        {"INT32", "[2,2]", "[[1,2],[3,4.0]]", `input "x": data[1][1] is 4.0: must be an integer without fraction or exponent`},
		"an exponent for an integer":       {"INT32", "[1]", "[1e3]", `input "x": data[0] is 1e3: must be an integer without fraction or exponent`},
		"text for an integer":              {"INT32", "[1]", `["1"]`, `input "x": data[0] must be an integer`},
		"a number for a boolean":           {"BOOL", "[1]", "[1]", `input "x": data[0] must be true or false`},
		"a number for text":                {"BYTES", "[1]", "[1]", `input "x": data[0] must be a string`},
		"null for a float":                 {"FP32", "[1]", "[null]", `input "x": data[0] must be a number`},
		"a float above FP32":               {"FP32", "[1]", "[3.5e38]", `input "x": data[0] is 3.5e38: out of range for FP32`},
		"a float above FP64":               {"FP64", "[1]", "[-1e999]", `input "x": data[0] is -1e999: out of range for FP64`},
		"a number of a thousand digits":    {"INT8", "[1]", "[" + strings.Repeat("9", 1000) + "]", `input "x": data[0] is ` + strings.Repeat("9", 40) + `…: out of range for INT8 (-128 to 127)`},
		"fewer elements than the shape":    {"INT8", "[2,3]", "[1,2,3]", `input "x": data must hold 6, as the shape says, but holds 3`},
		"more elements than the shape":     {"INT8", "[2]", "[1,2,3]", `input "x": data must hold 2, as the shape says, but holds 3`},
		"a ragged row":                     {"INT8", "[2,2]", "[[1,2],[3]]", `input "x": data[1] must hold 2, as the shape says, but holds 1`},
		"transposed rows":                  {"INT8", "[1,2]", "[[1],[2]]", `input "x": data[0] must hold 2, as the shape says, but holds 1`},
		"a number among rows":              {"INT8", "[2,1]", "[[1],2]", `input "x": data[1] must be an array`},
		"a row among numbers":              {"INT8", "[2]", "[1,[2]]", `input "x": data[1] must be an integer`},
		"no array":                         {"INT8", "[1]", "1", `input "x": data must be an array`},
		"an object":                        {"INT8", "[1]", "{}", `input "x": data must be an array`},
		"a datatype without JSON form":     {"FP16", "[1]", "[1]", `input "x": datatype FP16 has no JSON form; send it as binary data or call by gRPC`},
		"another without JSON form":        {"BF16", "[1]", "[1]", `input "x": datatype BF16 has no JSON form; send it as binary data or call by gRPC`},
		"an unknown datatype":              {"FP8", "[1]", "[1]", `input "x": datatype "FP8" is unknown; known are BF16, BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8`},
		"a shape beyond memory":            {"INT8", "[4294967296,4294967296]", "[1]", `input "x": shape [4294967296,4294967296] holds more elements than can be addressed`},
		"a shape that promises far more":   {"FP64", "[1000000000000]", "[1]", `input "x": data must hold 1000000000000, as the shape says, but holds 1`},
		"a shape of BYTES that does too":   {"BYTES", "[1000000000000]", `["a"]`, `input "x": data must hold 1000000000000, as the shape says, but holds 1`},
		"deeper data than dimensions":      {"INT8", "[2]", "[[1],[2]]", `input "x": data[0] must be an integer`},
		"shallower data than dimensions":   {"INT8", "[1,1,1]", "[[1]]", `input "x": data[0][0] must be an array`},
		"elements where there are none":    {"INT8", "[0]", "[1]", `input "x": data must hold 0, as the shape says, but holds 1`},
		"no element where a scalar is due": {"INT8", "[]", "[]", `input "x": data must hold 1, as the shape says, but holds 0`},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, body(test.datatype, test.shape, test.data), apierr.InvalidTensor, test.want)
		})
	}
}

func TestDecodeRefusesWrongRequests(t *testing.T) {
	const tensor = `{"name":"x","datatype":"INT8","shape":[1],"data":[1]}`
	for name, test := range map[string]struct{ body, want string }{
		"nothing":                      {"", "the body is not valid JSON: byte 0: the text ends where a value should be"},
		"an array":                     {"[]", "the body must be an object"},
		"no inputs":                    {`{"id":"1"}`, "inputs is missing"},
		"inputs that are no array":     {`{"inputs":{}}`, "inputs must be an array"},
		"an input that is no object":   {`{"inputs":[1]}`, "inputs[0] must be an object"},
		"an input without data":        {`{"inputs":[{"name":"x","datatype":"INT8","shape":[1]}]}`, "inputs[0].data is missing"},
		"an input without anything":    {`{"inputs":[` + tensor + `,{}]}`, "inputs[1].name, datatype, shape, data are missing"},
		"a name used twice":            {`{"inputs":[` + tensor + `,` + tensor + `]}`, `inputs[1].name "x" is used by an input before`},
		"a field given twice":          {`{"inputs":[{"name":"x","data":[1],"data":[2],"shape":[1],"datatype":"INT8"}]}`, "inputs[0].data is given twice"},
		"inputs given twice":           {`{"inputs":[],"inputs":[]}`, "inputs is given twice"},
		"a name that is no string":     {`{"inputs":[{"name":1}]}`, "inputs[0].name must be a string"},
		"an id that is no string":      {`{"id":1,"inputs":[]}`, "id must be a string"},
		"a shape that is no array":     {`{"inputs":[{"shape":3}]}`, "inputs[0].shape must be an array"},
		"a negative dimension":         {`{"inputs":[{"shape":[2,-1]}]}`, "inputs[0].shape[1] is -1: must be an integer of at least 0"},
		"a dimension that is a float":  {`{"inputs":[{"shape":[1.0]}]}`, "inputs[0].shape[0] is 1.0: must be an integer of at least 0"},
		"a dimension that is text":     {`{"inputs":[{"shape":["1"]}]}`, "inputs[0].shape[0] must be an integer of at least 0"},
		"a parameter that is null":     {`{"parameters":{"a":null}}`, "parameters.a must be a boolean, a number or a string"},
		"a parameter beyond 64 bits":   {`{"parameters":{"a":18446744073709551616}}`, "parameters.a is 18446744073709551616: out of range for a 64-bit integer"},
		"a parameter beyond a double":  {`{"parameters":{"a":1e400}}`, "parameters.a is 1e400: out of range for a double"},
		"a binary tensor's size":       {`{"inputs":[{"name":"x","parameters":{"binary_data_size":-4}}]}`, "inputs[0].parameters.binary_data_size is -4: must be an integer of at least 0"},
		"a choice of binary data":      {`{"parameters":{"binary_data_output":1}}`, "parameters.binary_data_output must be true or false"},
		"an output without name":       {`{"inputs":[],"outputs":[{}]}`, "outputs[0].name is missing"},
		"an output asked for twice":    {`{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}`, `outputs[1].name "y" is used by an output before`},
		"text after the end":           {`{"inputs":[]} x`, `the body is not valid JSON: byte 14: found 'x' where the end should be`},
		"an end too early":             {`{"inputs":[`, "the body is not valid JSON: byte 11: the text ends where a value should be"},
		"a string without end":         {`{"id":"a`, "the body is not valid JSON: byte 8: the text ends where the end of the string should be"},
		"NaN":                          {body("FP32", "[1]", "[NaN]"), "the body is not valid JSON: byte 61: found 'N' where a value should be; JSON has no NaN and no infinity, send such tensors as binary data or by gRPC"},
		"minus infinity":               {body("FP32", "[1]", "[-Infinity]"), "the body is not valid JSON: byte 62: found 'I' where a digit should be; JSON has no NaN and no infinity, send such tensors as binary data or by gRPC"},
		"a trailing comma":             {body("FP32", "[1]", "[1,]"), `the body is not valid JSON: byte 63: found ']' where a value should be`},
		"a leading zero":               {body("FP32", "[1]", "[01]"), `the body is not valid JSON: byte 62: found '1' where "," or "]" should be`},
		"a number that ends in a dot":  {body("FP32", "[1]", "[1.]"), `the body is not valid JSON: byte 63: found ']' where a digit should be`},
		"an exponent without digits":   {body("FP32", "[1]", "[1e+]"), `the body is not valid JSON: byte 64: found ']' where a digit should be`},
		"a control character":          {body("BYTES", "[1]", "[\"a\nb\"]"), `the body is not valid JSON: byte 64: found '\n' where an escape of this control character should be`},
		"an unknown escape":            {body("BYTES", "[1]", `["\x"]`), `the body is not valid JSON: byte 64: found 'x' where an escape should be`},
		"an escape cut short":          {body("BYTES", "[1]", `["\u12"]`), `the body is not valid JSON: byte 67: found '"' where a hexadecimal digit should be`},
		"half a surrogate pair":        {body("BYTES", "[1]", `["\ud83d"]`), `the body is not valid JSON: byte 63: the string has half of a surrogate pair`},
		"a surrogate pair turned over": {body("BYTES", "[1]", `["\ude00\ud83d"]`), `the body is not valid JSON: byte 63: the string has half of a surrogate pair`},
		"bytes that are not UTF-8":     {body("BYTES", "[1]", "[\"\xff\"]"), `the body is not valid JSON: byte 63: the string is not valid UTF-8`},
		"a key that is no string":      {`{1:2}`, `the body is not valid JSON: byte 1: found '1' where a field name should be`},
		"a key without value":          {`{"a"}`, `the body is not valid JSON: byte 4: found '}' where ":" should be`},
		"an unknown field cut short":   {`{"later":{"a" 1}}`, `the body is not valid JSON: byte 14: found '1' where ":" should be`},
		"an unknown field with no key": {`{"later":{1:1}}`, `the body is not valid JSON: byte 10: found '1' where a field name should be`},
		"arrays too deep":              {`{"later":` + strings.Repeat("[", 100000), `the body is not valid JSON: byte 72: arrays and objects nest deeper than 64`},
		"data too deep":                {body("INT8", "[1]", strings.Repeat("[", 100000)), `the body is not valid JSON: byte 121: arrays and objects nest deeper than 64`},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, test.body, apierr.InvalidRequest, test.want)
		})
	}
}

// refused checks the whole error that a body gets.
func refused(t *testing.T, body, code, message string) {
	t.Helper()
	request, _, err := DecodeInferRequest([]byte(body), nil, "m", "")
	var failure *apierr.Error
	if !errors.As(err, &failure) {
		t.Fatalf("got request %v and error %v, want an *apierr.Error", request, err)
	}
	if failure.Code != code || failure.HTTP != http.StatusBadRequest || failure.Message != message {
		t.Errorf("got %s %d %q\nwant %s 400 %q", failure.Code, failure.HTTP, failure.Message, code, message)
	}
}
