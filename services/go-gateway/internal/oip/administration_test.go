package oip

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestMessagesAreWrittenAsTritonWritesThem(t *testing.T) {
	for name, test := range map[string]struct {
		message proto.Message
		want    string
	}{
		"large counts as numbers, zeros, absent messages": {
			&pb.ModelStatisticsResponse{ModelStats: []*pb.ModelStatistics{{
				Name: "digits", LastInference: 1 << 60, InferenceStats: &pb.InferStatistics{Success: &pb.StatisticDuration{Count: 2}},
			}}},
			`{"model_stats":[{"name":"digits","version":"","last_inference":1152921504606846976,"inference_count":0,"execution_count":0,` +
				`"inference_stats":{"success":{"count":2,"ns":0}},"batch_stats":[],"memory_usage":[],"response_stats":{}}]}`,
		},
		"bytes, negative numbers, maps in order, texts escaped": {
			&pb.RepositoryModelLoadRequest{ModelName: "a\"b", Parameters: map[string]*pb.ModelRepositoryParameter{
				"z": {ParameterChoice: &pb.ModelRepositoryParameter_Int64Param{Int64Param: -7}},
				"f": {ParameterChoice: &pb.ModelRepositoryParameter_BytesParam{BytesParam: []byte{0, 255}}},
				"b": {ParameterChoice: &pb.ModelRepositoryParameter_BoolParam{BoolParam: false}},
				"n": {},
			}},
			`{"repository_name":"","model_name":"a\"b","parameters":{"b":{"bool_param":false},"f":{"bytes_param":"AP8="},"n":{},"z":{"int64_param":-7}}}`,
		},
		"names of enumerations, or the number of a newer one": {
			&pb.ModelInput{Name: "x", DataType: pb.DataType_TYPE_FP32, Format: 99, Dims: []int64{-1, 4}},
			`{"name":"x","data_type":"TYPE_FP32","format":99,"dims":[-1,4],"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,"is_non_linear_format_io":false}`,
		},
		"floats": {
			&pb.InferTensorContents{Fp32Contents: []float32{0.1, 2}, Fp64Contents: []float64{1e300}},
			`{"bool_contents":[],"int_contents":[],"int64_contents":[],"uint_contents":[],"uint64_contents":[],"fp32_contents":[0.1,2],"fp64_contents":[1e+300],"bytes_contents":[]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(AppendMessage(nil, test.message)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestAdministrativeAnswersHaveTritonsForm(t *testing.T) {
	index := &pb.RepositoryIndexResponse{Models: []*pb.RepositoryIndexResponse_ModelIndex{
		{Name: "a", Version: "1", State: "READY"}, {Name: "b", State: "UNAVAILABLE", Reason: "unloaded"},
	}}
	trace := map[string]*pb.TraceSettingResponse_SettingValue{
		"trace_level": {Value: []string{"TIMESTAMPS"}}, "trace_rate": {Value: []string{"1000"}}, "empty": {},
	}
	log := map[string]*pb.LogSettingsResponse_SettingValue{
		"log_info":          {ParameterChoice: &pb.LogSettingsResponse_SettingValue_BoolParam{BoolParam: true}},
		"log_verbose_level": {ParameterChoice: &pb.LogSettingsResponse_SettingValue_Uint32Param{Uint32Param: 1}},
		"log_format":        {ParameterChoice: &pb.LogSettingsResponse_SettingValue_StringParam{StringParam: "default"}},
		"log_new":           {},
	}
	regions := map[string]*pb.SystemSharedMemoryStatusResponse_RegionStatus{
		"r2": {Name: "r2", Key: "/k", Offset: 1 << 40, ByteSize: 64}, "r1": {Name: "r1", Key: "/j"},
	}
	for want, got := range map[string][]byte{
		`[{"name":"a","version":"1","state":"READY"},{"name":"b","state":"UNAVAILABLE","reason":"unloaded"}]`: AppendIndex(nil, index),
		`[]`: AppendIndex(nil, &pb.RepositoryIndexResponse{}),
		`{"empty":[],"trace_level":["TIMESTAMPS"],"trace_rate":"1000"}`:                                                      AppendTraceSettings(nil, trace),
		`{"log_format":"default","log_info":true,"log_new":null,"log_verbose_level":1}`:                                      AppendLogSettings(nil, log),
		`[{"name":"r1","key":"/j","offset":0,"byte_size":0},{"name":"r2","key":"/k","offset":1099511627776,"byte_size":64}]`: AppendRegions(nil, regions),
	} {
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// decodes are the readers of administrative bodies, each with a request that it fills.
var decodes = map[string]func(body []byte) (proto.Message, error){
	"index": func(body []byte) (proto.Message, error) { return DecodeIndexRequest(body) },
	"load": func(body []byte) (proto.Message, error) {
		parameters, err := DecodeRepositoryParameters(body)
		return &pb.RepositoryModelLoadRequest{Parameters: parameters}, err
	},
	"trace": func(body []byte) (proto.Message, error) {
		settings, err := DecodeTraceSettings(body)
		return &pb.TraceSettingRequest{Settings: settings}, err
	},
	"log": func(body []byte) (proto.Message, error) {
		settings, err := DecodeLogSettings(body)
		return &pb.LogSettingsRequest{Settings: settings}, err
	},
	"register": func(body []byte) (proto.Message, error) { return DecodeRegisterRequest(body, "r") },
}

func TestAdministrativeBodiesAreRead(t *testing.T) {
	text := func(value string) *pb.ModelRepositoryParameter {
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_StringParam{StringParam: value}}
	}
	for name, test := range map[string]struct {
		kind, body string
		want       proto.Message
	}{
		"an empty index":          {"index", "", &pb.RepositoryIndexRequest{}},
		"an index of white space": {"index", " \n", &pb.RepositoryIndexRequest{}},
		"an index of the ready":   {"index", `{"ready":true,"other":[1]}`, &pb.RepositoryIndexRequest{Ready: true}},
		"an empty load":           {"load", "", &pb.RepositoryModelLoadRequest{}},
		"a load with parameters": {
			"load", `{"parameters":{"config":"{}","file:1/model.onnx":"AP8=","unload_dependents":true,"n":-3}}`,
			&pb.RepositoryModelLoadRequest{Parameters: map[string]*pb.ModelRepositoryParameter{
				"config": text("{}"), "file:1/model.onnx": {ParameterChoice: &pb.ModelRepositoryParameter_BytesParam{BytesParam: []byte{0, 255}}},
				"unload_dependents": {ParameterChoice: &pb.ModelRepositoryParameter_BoolParam{BoolParam: true}},
				"n":                 {ParameterChoice: &pb.ModelRepositoryParameter_Int64Param{Int64Param: -3}},
			}},
		},
		"trace settings": {
			"trace", `{"trace_level":["TIMESTAMPS","TENSORS"],"trace_rate":"5","trace_count":7,"trace_file":null}`,
			&pb.TraceSettingRequest{Settings: map[string]*pb.TraceSettingRequest_SettingValue{
				"trace_level": {Value: []string{"TIMESTAMPS", "TENSORS"}}, "trace_rate": {Value: []string{"5"}}, "trace_count": {Value: []string{"7"}}, "trace_file": {},
			}},
		},
		"log settings": {
			"log", `{"log_info":false,"log_verbose_level":2,"log_format":"ISO8601","log_file":null}`,
			&pb.LogSettingsRequest{Settings: map[string]*pb.LogSettingsRequest_SettingValue{
				"log_info":          {ParameterChoice: &pb.LogSettingsRequest_SettingValue_BoolParam{}},
				"log_verbose_level": {ParameterChoice: &pb.LogSettingsRequest_SettingValue_Uint32Param{Uint32Param: 2}},
				"log_format":        {ParameterChoice: &pb.LogSettingsRequest_SettingValue_StringParam{StringParam: "ISO8601"}},
			}},
		},
		"a region": {
			"register", `{"key":"/k","offset":8,"byte_size":18446744073709551615}`,
			&pb.SystemSharedMemoryRegisterRequest{Name: "r", Key: "/k", Offset: 8, ByteSize: 1<<64 - 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodes[test.kind]([]byte(test.body))
			if err != nil || !proto.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestAdministrativeBodiesThatAreWrongAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ kind, body, want string }{
		"an array":                  {"index", "[]", "the body must be an object"},
		"text after the end":        {"index", "{} x", "the body is not valid JSON: byte 3: found 'x' where the end should be"},
		"ready that is no boolean":  {"index", `{"ready":1}`, "ready must be true or false"},
		"a field twice":             {"index", `{"ready":true,"ready":true}`, "ready is given twice"},
		"a parameter that is null":  {"load", `{"parameters":{"a":null}}`, "parameters.a must be a boolean, an integer or a string"},
		"a parameter with a point":  {"load", `{"parameters":{"a":1.5}}`, "parameters.a must be a boolean, an integer or a string"},
		"a file not in base64":      {"load", `{"parameters":{"file:a":"?"}}`, "parameters.file:a must be a file in base64: illegal base64 data at input byte 0"},
		"a trace setting of truth":  {"trace", `{"trace_rate":true}`, "trace_rate must be a string, a number, an array of strings or null"},
		"a trace level of numbers":  {"trace", `{"trace_level":[1]}`, "trace_level[0] must be a string"},
		"a negative log level":      {"log", `{"log_verbose_level":-1}`, "log_verbose_level must be a boolean, an integer from 0 up, a string or null"},
		"a log setting of an array": {"log", `{"log_info":[]}`, "log_info must be a boolean, an integer from 0 up, a string or null"},
		"a region without all":      {"register", "", "key, byte_size are missing"},
		"a region without size":     {"register", `{"key":"/k"}`, "byte_size is missing"},
		"a region of negative size": {"register", `{"key":"/k","byte_size":-1}`, "byte_size must be an integer from 0 up, of at most 64 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodes[test.kind]([]byte(test.body))
			var failure *apierr.Error
			if !errors.As(err, &failure) || failure.Code != apierr.InvalidRequest || failure.Message != test.want {
				t.Errorf("got %v, want INVALID_REQUEST %q", err, test.want)
			}
		})
	}
}
