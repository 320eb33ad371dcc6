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

// binaryParameters say how tensors travel over REST; backends, which are called by gRPC, never see them.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
var binaryParameters = []string{"binary_data", "binary_data_output"}

// parameters reads an object of booleans, numbers and strings. Integers stay integers: int64 where they fit, else uint64.
func (s *scanner) parameters() (map[string]*pb.InferParameter, error) {
	var parameters map[string]*pb.InferParameter
	err := s.object(func(key string) error {
		if key == "binary_data_size" {
			return &fieldError{text: "announces binary tensor data, which this gateway does not take; send JSON or call by gRPC"}
		}
		parameter, err := s.parameter()
		if err != nil || slices.Contains(binaryParameters, key) {
			return err
		}
		if parameters == nil {
			parameters = map[string]*pb.InferParameter{}
		}
		parameters[key] = parameter
		return nil
	})
	return parameters, err
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
		dst = append(appendString(dst, []byte(name)), ':')
		var err error
		if dst, err = appendParameter(dst, parameters[name]); err != nil {
			return dst, fmt.Errorf("parameter %q %w", name, err)
		}
	}
	return append(dst, '}'), nil
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
