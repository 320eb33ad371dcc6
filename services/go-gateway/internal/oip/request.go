package oip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// DecodeInferRequest translates the body of POST /v2/models/{model}[/versions/{version}]/infer; tensors come out as
// raw_input_contents, one entry per input. It keeps nothing of body.
//
// Errors are *apierr.Error: INVALID_REQUEST where the body is no JSON or no infer request, INVALID_TENSOR where one
// input's datatype, shape or data is wrong.
func DecodeInferRequest(body []byte, model, version string) (*pb.ModelInferRequest, error) {
	decoder := requestDecoder{
		scanner: scanner{text: body},
		request: &pb.ModelInferRequest{ModelName: model, ModelVersion: version},
	}
	if err := decoder.decode(); err != nil {
		var failure *apierr.Error
		if errors.As(err, &failure) {
			return nil, failure
		}
		return nil, apierr.New(apierr.InvalidRequest, "%w", err)
	}
	return decoder.request, nil
}

type requestDecoder struct {
	scanner
	request *pb.ModelInferRequest
}

func (d *requestDecoder) decode() error {
	hasInputs := false
	err := d.object(func(key string) (err error) {
		switch key {
		case "id":
			d.request.Id, err = d.string()
		case "parameters":
			d.request.Parameters, err = d.parameters()
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
		d.request.RawInputContents = append(d.request.RawInputContents, raw)
		return nil
	})
}

// input reads one tensor. Its data is read last, because datatype and shape may stand behind it.
func (d *requestDecoder) input() (*pb.ModelInferRequest_InferInputTensor, []byte, error) {
	input := &pb.ModelInferRequest_InferInputTensor{}
	var data scanner
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
			input.Parameters, err = d.parameters()
		case "data":
			data, err = d.sub()
		default:
			err = d.skip()
		}
		return err
	})
	if err == nil {
		err = missing.err()
	}
	if err != nil {
		return nil, nil, err
	}
	raw, err := readTensor(&data, input.Datatype, input.Shape)
	if err != nil {
		var syntax *syntaxError
		if errors.As(err, &syntax) {
			return nil, nil, err
		}
		return nil, nil, apierr.New(apierr.InvalidTensor, "input %q: %v", input.Name, err) // %v: the path is complete
	}
	return input, raw, nil
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
		const wanted = "an integer of at least 0"
		text, err := d.number(wanted)
		if err != nil {
			return err
		}
		dimension, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || dimension < 0 {
			return &fieldError{text: fmt.Sprintf("is %s: must be %s", shortened(text), wanted)}
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
		missing := newFields("name")
		err := d.object(func(key string) (err error) {
			missing.remove(key)
			switch key {
			case "name":
				output.Name, err = d.string()
			case "parameters":
				output.Parameters, err = d.parameters()
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

func (f *fields) err() error {
	switch len(*f) {
	case 0:
		return nil
	case 1:
		return &fieldError{path: (*f)[0], text: "is missing"}
	}
	return &fieldError{path: strings.Join(*f, ", "), text: "are missing"}
}
