package oip

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// travel is what parameters say about the way of tensors over REST; each is nil where it isn't said.
type travel struct {
	size *int64 // binary_data_size
	data *bool  // binary_data
	all  *bool  // binary_data_output
}

// parameters reads an object of booleans, numbers and strings. Integers stay integers: int64 where they fit, else uint64.
func (s *scanner) parameters() (parameters map[string]*pb.InferParameter, way travel, err error) {
	err = s.object(func(key string) (err error) {
		switch key {
		case binaryDataSize:
			size, err := s.size()
			way.size = &size
			return err
		case binaryData:
			way.data, err = s.flag()
			return err
		case binaryDataOutput:
			way.all, err = s.flag()
			return err
		}
		parameter, err := s.parameter()
		if err != nil {
			return err
		}
		if parameters == nil {
			parameters = map[string]*pb.InferParameter{}
		}
		parameters[key] = parameter
		return nil
	})
	return parameters, way, err
}

func (s *scanner) flag() (*bool, error) {
	value, err := s.boolean()
	return &value, err
}

func (s *scanner) size() (int64, error) {
	const wanted = "an integer of at least 0"
	text, err := s.number(wanted)
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || size < 0 {
		return 0, &fieldError{text: fmt.Sprintf("is %s: must be %s", shortened(text), wanted)}
	}
	return size, nil
}

func (s *scanner) parameter() (*pb.InferParameter, error) {
	const wanted = "a boolean, a number or a string"
	switch next := s.next(); {
	case next == 't' || next == 'f':
		value, err := s.boolean()
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: value}}, err
	case next == '"':
		value, err := s.string()
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_StringParam{StringParam: value}}, err
	case next == '-' || isDigit(next):
		text, err := s.number(wanted)
		if err != nil {
			return nil, err
		}
		return numberParameter(string(text))
	}
	return nil, s.mismatch(wanted)
}

func numberParameter(text string) (*pb.InferParameter, error) {
	if !bytes.ContainsAny([]byte(text), ".eE") {
		if value, err := strconv.ParseInt(text, 10, 64); err == nil {
			return &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: value}}, nil
		}
		value, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, &fieldError{text: fmt.Sprintf("is %s: out of range for a 64-bit integer", shortened([]byte(text)))}
		}
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: value}}, nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, &fieldError{text: fmt.Sprintf("is %s: out of range for a double", shortened([]byte(text)))}
	}
	return &pb.InferParameter{ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: value}}, nil
}

// appendParameters appends `,"parameters":{…}` in the order of names; nothing where there are none.
func appendParameters(dst []byte, parameters map[string]*pb.InferParameter) ([]byte, error) {
	if len(parameters) == 0 {
		return dst, nil
	}
	dst = append(dst, `,"parameters":{`...)
	for index, name := range slices.Sorted(maps.Keys(parameters)) {
		if index > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendNamed(dst, name, parameters[name]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendBinaryParameters is appendParameters for a tensor of size bytes behind the JSON.
func appendBinaryParameters(dst []byte, parameters map[string]*pb.InferParameter, size int) ([]byte, error) {
	dst = strconv.AppendInt(append(dst, `,"parameters":{"`+binaryDataSize+`":`...), int64(size), 10)
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		var err error
		if dst, err = appendNamed(append(dst, ','), name, parameters[name]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendNamed(dst []byte, name string, parameter *pb.InferParameter) ([]byte, error) {
	dst = append(appendString(dst, []byte(name)), ':')
	dst, err := appendParameter(dst, parameter)
	if err != nil {
		return dst, fmt.Errorf("parameter %q %w", name, err)
	}
	return dst, nil
}

func appendParameter(dst []byte, parameter *pb.InferParameter) ([]byte, error) {
	switch choice := parameter.GetParameterChoice().(type) {
	case *pb.InferParameter_BoolParam:
		return strconv.AppendBool(dst, choice.BoolParam), nil
	case *pb.InferParameter_Int64Param:
		return strconv.AppendInt(dst, choice.Int64Param, 10), nil
	case *pb.InferParameter_Uint64Param:
		return strconv.AppendUint(dst, choice.Uint64Param, 10), nil
	case *pb.InferParameter_DoubleParam:
		if choice.DoubleParam == math.Trunc(choice.DoubleParam) && math.Abs(choice.DoubleParam) < 1e15 {
			return strconv.AppendFloat(dst, choice.DoubleParam, 'f', 1, 64), nil // 2.0, so that it reads back as a double
		}
		return writeFloat(dst, choice.DoubleParam, 64)
	case *pb.InferParameter_StringParam:
		return appendString(dst, []byte(choice.StringParam)), nil
	}
	return dst, errors.New("has no value")
}
