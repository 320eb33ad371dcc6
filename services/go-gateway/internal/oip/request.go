package oip

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// DecodeInferRequest translates the body of POST /v2/models/{model}[/versions/{version}]/infer, which SplitBody has split
// into JSON text and binary tensors. Tensors come out as raw_input_contents, one entry per input; those that came in binary
// are slices of binary, nothing is kept of text.
//
// Errors are *apierr.Error: INVALID_REQUEST where the body is no JSON or no infer request, INVALID_TENSOR where one
// input's datatype, shape or data is wrong.
func DecodeInferRequest(text, binary []byte, model, version string) (*pb.ModelInferRequest, BinaryOutputs, error) {
	decoder := requestDecoder{
		scanner: scanner{text: text},
		binary:  binary,
		request: &pb.ModelInferRequest{ModelName: model, ModelVersion: version},
	}
	if err := decoder.decode(); err != nil {
		return nil, BinaryOutputs{}, refusal(err)
	}
	return decoder.request, decoder.wanted, nil
}

// refusal is the error that a caller gets for text that was refused.
func refusal(err error) error {
	var failure *apierr.Error
	if errors.As(err, &failure) {
		return failure
	}
	return apierr.New(apierr.InvalidRequest, "%w", err)
}

type requestDecoder struct {
	scanner
	binary  []byte // tensors behind the JSON that no input has taken yet
	request *pb.ModelInferRequest
	wanted  BinaryOutputs
}

func (d *requestDecoder) decode() error {
	hasInputs := false
	err := d.object(func(key string) (err error) {
		switch key {
		case "id":
			d.request.Id, err = d.string()
		case "parameters":
			var way travel
			d.request.Parameters, way, err = d.parameters()
			d.wanted.all = way.all != nil && *way.all
		case "inputs":
			hasInputs, err = true, d.inputs()
		case "outputs":
			err = d.outputs()
		default:
			err = d.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := d.end(); err != nil {
		return err
	}
	if !hasInputs {
		return &fieldError{path: "inputs", text: "is missing"}
	}
	if len(d.binary) > 0 {
		return fmt.Errorf("%d bytes follow the last binary tensor; each %s and the body's length must add up", len(d.binary), binaryDataSize)
	}
	return nil
}

func (d *requestDecoder) inputs() error {
	names := map[string]struct{}{}
	return d.array(func(int) error {
		input, raw, err := d.input()
		if err != nil {
			return err
		}
		if _, twice := names[input.Name]; twice {
			return &fieldError{path: "name", text: fmt.Sprintf("%q is used by an input before", input.Name)}
		}
		names[input.Name] = struct{}{}
		d.request.Inputs = append(d.request.Inputs, input)
		if !inSharedMemory(input.Parameters) {
			d.request.RawInputContents = append(d.request.RawInputContents, raw)
		}
		return nil
	})
}

// input reads one tensor. Datatype and shape may stand behind its data, which then is read last.
func (d *requestDecoder) input() (*pb.ModelInferRequest_InferInputTensor, []byte, error) {
	input := &pb.ModelInferRequest_InferInputTensor{}
	var (
		data scanner
		raw  []byte // nil: not read yet
		way  travel
	)
	missing := newFields("name", "datatype", "shape", "data")
	err := d.object(func(key string) (err error) {
		missing.remove(key)
		switch key {
		case "name":
			input.Name, err = d.string()
		case "datatype":
			input.Datatype, err = d.string()
		case "shape":
			input.Shape, err = d.shape()
		case "parameters":
			input.Parameters, way, err = d.parameters()
		case "data":
			described := !missing.has("datatype") && !missing.has("shape")
			if raw = d.tensorAhead(input, described); raw == nil {
				data, err = d.sub()
			}
		default:
			err = d.skip()
		}
		return err
	})
	hasData, shared := !missing.has("data"), inSharedMemory(input.Parameters)
	if way.size != nil || shared {
		missing.remove("data")
	}
	if err == nil {
		err = missing.err()
	}
	if err != nil {
		return nil, nil, err
	}
	if shared {
		if hasData || way.size != nil {
			return nil, nil, apierr.New(apierr.InvalidTensor, "input %q: lies in shared memory and has data; send one of them", input.Name)
		}
		return input, nil, nil
	}
	if way.size != nil && hasData {
		return nil, nil, apierr.New(apierr.InvalidTensor, "input %q: has both data and %s; send one of them", input.Name, binaryDataSize)
	}
	if way.size != nil {
		raw, err := d.cut(input, *way.size)
		return input, raw, err
	}
	if raw != nil {
		return input, raw, nil
	}
	if raw, err = readTensor(&data, input.Datatype, input.Shape); err != nil {
		var syntax *syntaxError
		if errors.As(err, &syntax) {
			return nil, nil, err
		}
		return nil, nil, apierr.New(apierr.InvalidTensor, "input %q: %v", input.Name, err) // %v: the path is complete
	}
	return input, raw, nil
}

// tensorAhead reads the input's data where what stands before describes it. Where it is wrong, the scanner stays: what is wrong comes after
// all that is wrong with the other fields.
func (d *requestDecoder) tensorAhead(input *pb.ModelInferRequest_InferInputTensor, described bool) []byte {
	if !described {
		return nil
	}
	ahead := scanner{text: d.text, at: d.at}
	raw, err := readTensor(&ahead, input.Datatype, input.Shape)
	if err != nil {
		return nil
	}
	d.at = ahead.at
	return raw
}

// sub steps over the next value and returns a scanner for it, whose errors count bytes from the body's start.
func (s *scanner) sub() (scanner, error) {
	s.space()
	start := s.at
	err := s.skip()
	return scanner{text: s.text[:s.at], at: start}, err
}

func (d *requestDecoder) shape() ([]int64, error) {
	shape := []int64{}
	err := d.array(func(int) error {
		dimension, err := d.size()
		if err != nil {
			return err
		}
		shape = append(shape, dimension)
		return nil
	})
	return shape, err
}

func (d *requestDecoder) outputs() error {
	names := map[string]struct{}{}
	return d.array(func(int) error {
		output := &pb.ModelInferRequest_InferRequestedOutputTensor{}
		var way travel
		missing := newFields("name")
		err := d.object(func(key string) (err error) {
			missing.remove(key)
			switch key {
			case "name":
				output.Name, err = d.string()
			case "parameters":
				output.Parameters, way, err = d.parameters()
			default:
				err = d.skip()
			}
			return err
		})
		if err == nil {
			err = missing.err()
		}
		if err != nil {
			return err
		}
		if _, twice := names[output.Name]; twice {
			return &fieldError{path: "name", text: fmt.Sprintf("%q is used by an output before", output.Name)}
		}
		names[output.Name] = struct{}{}
		if way.data != nil {
			d.wanted.set(output.Name, *way.data)
		}
		d.request.Outputs = append(d.request.Outputs, output)
		return nil
	})
}

// fields are the names that an object still lacks.
type fields []string

func newFields(names ...string) fields { return names }

func (f *fields) remove(name string) {
	for index, lacking := range *f {
		if lacking == name {
			*f = append((*f)[:index], (*f)[index+1:]...)
			return
		}
	}
}

func (f *fields) has(name string) bool { return slices.Contains(*f, name) }

func (f *fields) err() error {
	switch len(*f) {
	case 0:
		return nil
	case 1:
		return &fieldError{path: (*f)[0], text: "is missing"}
	}
	return &fieldError{path: strings.Join(*f, ", "), text: "are missing"}
}
