package oip

import (
	"errors"
	"maps"
	"slices"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// finalResponse is the parameter by which a backend marks the last of a stream's responses; REST callers see the end itself.
const finalResponse = "triton_final_response"

// DecodeGenerateRequest translates the body of POST /v2/models/{model}[/versions/{version}]/generate and generate_stream. A
// field, also one of the object `parameters`, that is named like an input of the model is that input: a value, or a flat
// array of values, which fill the declared shape. Any other is a parameter. Triton's generate extension:
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
//
// Errors are as those of DecodeInferRequest.
func DecodeGenerateRequest(text []byte, model *pb.ModelMetadataResponse, name, version string) (*pb.ModelInferRequest, error) {
	decoder := generateDecoder{
		scanner: scanner{text: text},
		model:   model,
		seen:    map[string]struct{}{},
		request: &pb.ModelInferRequest{ModelName: name, ModelVersion: version, Parameters: map[string]*pb.InferParameter{}},
	}
	err := decoder.object(decoder.field)
	if err == nil {
		err = decoder.end()
	}
	if err != nil {
		return nil, refusal(err)
	}
	return decoder.request, nil
}

type generateDecoder struct {
	scanner
	model   *pb.ModelMetadataResponse
	seen    map[string]struct{} // names given so far, at the top or among the parameters
	request *pb.ModelInferRequest
}

func (d *generateDecoder) field(key string) (err error) {
	switch {
	case d.input(key) != nil || key != "id" && key != "parameters":
		return d.named(key)
	case key == "id":
		d.request.Id, err = d.string()
		return err
	}
	return d.object(d.named)
}

// named reads an input or a parameter.
func (d *generateDecoder) named(name string) error {
	if _, twice := d.seen[name]; twice {
		return &fieldError{text: "is given twice"}
	}
	d.seen[name] = struct{}{}
	if input := d.input(name); input != nil {
		return d.tensor(input)
	}
	parameter, err := d.parameter()
	d.request.Parameters[name] = parameter
	return err
}

func (d *generateDecoder) input(name string) *pb.ModelMetadataResponse_TensorMetadata {
	for _, input := range d.model.GetInputs() {
		if input.GetName() == name {
			return input
		}
	}
	return nil
}

func (d *generateDecoder) tensor(input *pb.ModelMetadataResponse_TensorMetadata) error {
	refuse := func(err error) error {
		var syntax *syntaxError
		if errors.As(err, &syntax) {
			return err
		}
		return apierr.New(apierr.InvalidTensor, "input %q: %v", input.GetName(), err) // %v: the path is complete
	}
	raw, count, err := d.values(input.GetDatatype())
	if err != nil {
		return refuse(err)
	}
	shape, err := shapeOf(count, input.GetShape())
	if err != nil {
		return refuse(err)
	}
	d.request.Inputs = append(d.request.Inputs, &pb.ModelInferRequest_InferInputTensor{Name: input.GetName(), Datatype: input.GetDatatype(), Shape: shape})
	d.request.RawInputContents = append(d.request.RawInputContents, raw)
	return nil
}

// values reads one value, or an array of them, into raw form.
func (s *scanner) values(name string) (raw []byte, count int64, err error) {
	kind, err := jsonDatatype(name)
	if err != nil {
		return nil, 0, err
	}
	if s.next() != '[' {
		raw, err = kind.read(s, nil)
		return raw, 1, within("value", err)
	}
	err = s.array(func(int) (err error) {
		count++
		raw, err = kind.read(s, raw)
		return err
	})
	return raw, count, within("data", err)
}

// AppendGenerateResponse appends the answer to generate, or one event of generate_stream: id, model_name and model_version,
// the outputs by name, one element as it is and others as a flat array, and the response's parameters. Where two have one
// name, the first in that order stays.
//
// Errors are as those of AppendInferResponse.
func AppendGenerateResponse(dst []byte, response *pb.ModelInferResponse) ([]byte, error) {
	if raw := len(response.GetRawOutputContents()); raw > 0 && raw != len(response.GetOutputs()) {
		return dst, apierr.New(apierr.Internal, "the backend answered %d outputs with %d raw contents", len(response.GetOutputs()), raw)
	}
	dst = append(dst, '{')
	if response.GetId() != "" {
		dst = append(appendField(dst, `"id":`, response.GetId()), ',')
	}
	dst = appendField(dst, `"model_name":`, response.GetModelName())
	dst = appendField(dst, `,"model_version":`, response.GetModelVersion())
	taken := map[string]struct{}{"id": {}, "model_name": {}, "model_version": {}, finalResponse: {}}
	for index, output := range response.GetOutputs() {
		if _, ok := taken[output.GetName()]; ok {
			continue
		}
		taken[output.GetName()] = struct{}{}
		raw, err := rawOutput(response, index)
		if err != nil {
			return dst, contradiction(output, err)
		}
		dst = append(appendString(append(dst, ','), []byte(output.GetName())), ':')
		if dst, err = appendValues(dst, output, raw); err != nil {
			return dst, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(response.GetParameters())) {
		if _, ok := taken[name]; ok {
			continue
		}
		var err error
		if dst, err = appendNamed(append(dst, ','), name, response.GetParameters()[name]); err != nil {
			return dst, apierr.New(apierr.Unrepresentable, "%w; call by gRPC", err)
		}
	}
	return append(dst, '}'), nil
}

// appendValues appends the one element of a tensor, or an array of those that it has.
func appendValues(dst []byte, output *pb.ModelInferResponse_InferOutputTensor, raw []byte) ([]byte, error) {
	if count, err := elements(output.GetShape()); err == nil && count == 1 {
		return appendData(dst, output, raw)
	}
	dst, err := appendData(append(dst, '['), output, raw)
	return append(dst, ']'), err
}

// EndsStream says that a response carries nothing but the mark of the stream's end.
func EndsStream(response *pb.ModelInferResponse) bool {
	return len(response.GetOutputs()) == 0 && response.GetParameters()[finalResponse].GetBoolParam()
}
