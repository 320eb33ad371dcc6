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
	var known names
	return d.array(func(int) error {
		input, raw, err := d.input()
		if err != nil {
			return err
		}
		if !known.add(input.Name) {
			return &fieldError{path: "name", text: fmt.Sprintf("%q is used by an input before", input.Name)}
		}
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
		data *scanner
		raw  []byte // nil: not read yet
		way  travel
	)
	missing := newFields(fieldsOfInput)
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
	if raw, err = readTensor(data, input.Datatype, input.Shape); err != nil {
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
	before := d.scanner
	d.depth = 0 // as in sub
	raw, err := readTensor(&d.scanner, input.Datatype, input.Shape)
	if err != nil {
		d.scanner = before
		return nil
	}
	d.depth = before.depth
	return raw
}

// sub steps over the next value and returns a scanner for it, whose errors count bytes from the body's start.
func (s *scanner) sub() (*scanner, error) {
	s.space()
	start := s.at
	err := s.skip()
	return &scanner{text: s.text[:s.at], at: start}, err
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
	var known names
	return d.array(func(int) error {
		output := &pb.ModelInferRequest_InferRequestedOutputTensor{}
		var way travel
		missing := newFields(fieldsOfOutput)
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
		if !known.add(output.Name) {
			return &fieldError{path: "name", text: fmt.Sprintf("%q is used by an output before", output.Name)}
		}
		if way.data != nil {
			d.wanted.set(output.Name, *way.data)
		}
		d.request.Outputs = append(d.request.Outputs, output)
		return nil
	})
}

// names are those of the tensors so far. Most requests have one, which needs no map.
type names struct {
	first  string
	any    bool
	others map[string]struct{}
}

// add returns false where the name is there already.
func (n *names) add(name string) bool {
	if !n.any {
		n.first, n.any = name, true
		return true
	}
	if _, twice := n.others[name]; twice || name == n.first {
		return false
	}
	if n.others == nil {
		n.others = map[string]struct{}{}
	}
	n.others[name] = struct{}{}
	return true
}

// What objects must have.
var (
	fieldsOfInput  = []string{"name", "datatype", "shape", "data"}
	fieldsOfOutput = []string{"name"}
	fieldsOfRegion = []string{"key", "byte_size"}
)

// fields are those that an object must have, at most 64, and a bit for each that it still lacks.
type fields struct {
	names   []string
	lacking uint64
}

func newFields(names []string) fields { return fields{names, 1<<len(names) - 1} }

func (f *fields) remove(name string) {
	if index := slices.Index(f.names, name); index >= 0 {
		f.lacking &^= 1 << index
	}
}

func (f *fields) has(name string) bool {
	index := slices.Index(f.names, name)
	return index >= 0 && f.lacking>>index&1 == 1
}

func (f *fields) err() error {
	var missing []string
	for index, name := range f.names {
		if f.lacking>>index&1 == 1 {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return &fieldError{path: missing[0], text: "is missing"}
	}
	return &fieldError{path: strings.Join(missing, ", "), text: "are missing"}
}
