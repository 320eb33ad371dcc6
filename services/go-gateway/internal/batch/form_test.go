package batch_test

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// form is how one caller sends two tensors, and the answer it must get from a model that echoes.
type form struct {
	id      string
	rows    int64
	bytes   []byte // raw
	numbers []int32
	typed   bool
}

func (f form) request() *pb.ModelInferRequest {
	request := &pb.ModelInferRequest{ModelName: "m", Id: f.id, Inputs: []*pb.ModelInferRequest_InferInputTensor{
		{Name: "text", Datatype: "BYTES", Shape: []int64{f.rows, 2}}, {Name: "number", Datatype: "INT16", Shape: []int64{f.rows}},
	}}
	if f.typed {
		request.Inputs[0].Contents = &pb.InferTensorContents{BytesContents: elements(f.bytes)}
		request.Inputs[1].Contents = &pb.InferTensorContents{IntContents: f.numbers}
	} else {
		request.RawInputContents = [][]byte{f.bytes, shorts(f.numbers)}
	}
	return request
}

func (f form) answer() *pb.ModelInferResponse {
	answer := &pb.ModelInferResponse{ModelName: "m", ModelVersion: "1", Id: f.id}
	for index, input := range f.request().GetInputs() {
		answer.Outputs = append(answer.Outputs, &pb.ModelInferResponse_InferOutputTensor{
			Name: input.GetName(), Datatype: input.GetDatatype(), Shape: input.GetShape(), Contents: input.GetContents(),
		})
		if !f.typed {
			answer.RawOutputContents = append(answer.RawOutputContents, f.request().GetRawInputContents()[index])
		}
	}
	return answer
}

func text(elements ...string) []byte {
	var raw []byte
	for _, element := range elements {
		raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(element))), element...)
	}
	return raw
}

func elements(raw []byte) [][]byte {
	var list [][]byte
	for len(raw) > 0 {
		length := binary.LittleEndian.Uint32(raw)
		list, raw = append(list, raw[4:4+length]), raw[4+length:]
	}
	return list
}

func shorts(values []int32) []byte {
	var raw []byte
	for _, value := range values {
		raw = binary.LittleEndian.AppendUint16(raw, uint16(value))
	}
	return raw
}

func TestForm_of_the_answer_is_the_requests(t *testing.T) {
	forms := []form{
		{id: "first", rows: 1, bytes: text("", ""), numbers: []int32{0}},
		{id: "raw", rows: 2, bytes: text("a", "", "\x00\xff", "ü"), numbers: []int32{-1, 32767}},
		{id: "typed", rows: 1, bytes: text("longer than the others", "b"), numbers: []int32{-32768}, typed: true},
		{id: "", rows: 3, bytes: text("1", "2", "3", "4", "5", "6"), numbers: []int32{1, 2, 3}},
	}
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(time.Second, 0))
		pending := make([]<-chan outcome, len(forms))
		for index, form := range forms {
			pending[index] = f.call(t.Context(), 0, form.request())
		}
		for index, form := range forms {
			if got := <-pending[index]; got.err != nil || index > 0 && !proto.Equal(got.response, form.answer()) {
				t.Errorf("%s: got %v, %v\nwant %v", form.id, got.response, got.err, form.answer())
			}
		}
		if want := []int{1, 6}; !slices.Equal(f.counts.sizes, want) {
			t.Errorf("batches of %v, want %v", f.counts.sizes, want)
		}
	})
}

func TestForm_of_a_typed_answer_that_has_no_typed_form_is_raw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			response, err := taking(time.Second, 0)(ctx, request)
			if rowsOf(request) == 2 {
				response.Outputs[0].Datatype, response.RawOutputContents[0] = "FP16", []byte{1, 2, 3, 4}
			}
			return response, err
		})
		pending := []<-chan outcome{f.call(t.Context(), 0, request("busy", 0))}
		for range 2 {
			typed := request("", 7)
			typed.RawInputContents, typed.Inputs[0].Contents = nil, &pb.InferTensorContents{UintContents: []uint32{7}}
			pending = append(pending, f.call(t.Context(), 0, typed))
		}
		<-pending[0]
		<-pending[2]
		if got := <-pending[1]; got.err != nil || len(got.response.GetRawOutputContents()) != 1 {
			t.Errorf("got %v, %v", got.response, got.err)
		}
	})
}

func TestAlone_goes_what_could_mean_something_else_in_a_batch(t *testing.T) {
	cases := map[string]func(*pb.ModelInferRequest){
		"a sequence": func(r *pb.ModelInferRequest) {
			r.Parameters = map[string]*pb.InferParameter{"sequence_id": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 1}}}
		},
		"a timeout that is none": func(r *pb.ModelInferRequest) {
			r.Parameters = map[string]*pb.InferParameter{"timeout": {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "1s"}}}
		},
		"shared memory": func(r *pb.ModelInferRequest) {
			r.Inputs[0].Parameters = map[string]*pb.InferParameter{"shared_memory_region": {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "r"}}}
		},
		"a classification": func(r *pb.ModelInferRequest) {
			r.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "x", Parameters: map[string]*pb.InferParameter{
				"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 1}},
			}}}
		},
		"no inputs":              func(r *pb.ModelInferRequest) { r.Inputs, r.RawInputContents = nil, nil },
		"a scalar":               func(r *pb.ModelInferRequest) { r.Inputs[0].Shape = nil },
		"no rows":                func(r *pb.ModelInferRequest) { r.Inputs[0].Shape[0], r.RawInputContents[0] = 0, nil },
		"a negative row":         func(r *pb.ModelInferRequest) { r.Inputs[0].Shape[0] = -1 },
		"more rows than a batch": func(r *pb.ModelInferRequest) { r.Inputs[0].Shape[0], r.RawInputContents[0] = 33, make([]byte, 33*4) },
		"too little data":        func(r *pb.ModelInferRequest) { r.RawInputContents[0] = []byte{1} },
		"an unknown datatype":    func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "FP8" },
		"both forms":             func(r *pb.ModelInferRequest) { r.Inputs[0].Contents = &pb.InferTensorContents{} },
		"another raw count":      func(r *pb.ModelInferRequest) { r.RawInputContents = append(r.RawInputContents, nil) },
		"inputs of unequal rows": func(r *pb.ModelInferRequest) {
			r.Inputs = append(r.Inputs, &pb.ModelInferRequest_InferInputTensor{Name: "y", Datatype: "BOOL", Shape: []int64{2}})
			r.RawInputContents = append(r.RawInputContents, []byte{0, 1})
		},
		"fields of a later contract": func(r *pb.ModelInferRequest) { r.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 1}) },
		"another model":              func(r *pb.ModelInferRequest) { r.ModelName = "n" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen []*pb.ModelInferRequest
				f := start(t, roomy, newMembers("a"), func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
					seen = append(seen, request)
					time.Sleep(time.Second)
					return &pb.ModelInferResponse{}, nil
				})
				busy := f.call(t.Context(), 0, request("busy", 1))
				sent := request("own", 1)
				change(sent)
				got := f.call(t.Context(), 0, sent)
				if len(seen) != 2 || seen[1] != sent {
					t.Errorf("the members got %v", seen)
				}
				<-busy
				<-got
			})
		})
	}
}

func TestKinds_are_not_joined_with_one_another(t *testing.T) {
	kinds := []func(*pb.ModelInferRequest){
		func(*pb.ModelInferRequest) {},
		func(r *pb.ModelInferRequest) { r.ModelVersion = "1" },
		func(r *pb.ModelInferRequest) { r.Inputs[0].Name = "z" },
		func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "INT32" },
		func(r *pb.ModelInferRequest) { r.Inputs[0].Shape = []int64{1} },
		func(r *pb.ModelInferRequest) { r.Inputs[0].Shape = []int64{1, 1, 1} },
		func(r *pb.ModelInferRequest) {
			r.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "x"}}
		},
	}
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(time.Second, 0))
		pending := []<-chan outcome{f.call(t.Context(), 0, request("busy", 0))}
		for range 2 {
			for index, change := range kinds {
				sent := request(strconv.Itoa(index), uint32(index))
				change(sent)
				pending = append(pending, f.call(t.Context(), 0, sent))
			}
		}
		for _, answered := range pending {
			if got := <-answered; got.err != nil {
				t.Error(got.err)
			}
		}
		if want := []int{1, 2, 2, 2, 2, 2, 2, 2}; !slices.Equal(f.counts.sizes, want) {
			t.Errorf("batches of %v, want %v", f.counts.sizes, want)
		}
	})
}
