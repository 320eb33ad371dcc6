package oip

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// DecodeIndexRequest translates the body of POST /v2/repository/index.
func DecodeIndexRequest(body []byte) (*pb.RepositoryIndexRequest, error) {
	request := &pb.RepositoryIndexRequest{}
	err := decodeObject(body, func(s *scanner, key string) (err error) {
		if key != "ready" {
			return s.skip()
		}
		request.Ready, err = s.boolean()
		return err
	})
	return request, err
}

// AppendIndex appends the answer to POST /v2/repository/index, an array; version, state and reason only where there is one.
func AppendIndex(dst []byte, index *pb.RepositoryIndexResponse) []byte {
	dst = append(dst, '[')
	for number, model := range index.GetModels() {
		if number > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, `{"name":`, model.GetName())
		dst = appendOptional(dst, `,"version":`, model.GetVersion())
		dst = appendOptional(dst, `,"state":`, model.GetState())
		dst = append(appendOptional(dst, `,"reason":`, model.GetReason()), '}')
	}
	return append(dst, ']')
}

// filePrefix begins the names of load parameters that hold a file of the model, in base64.
const filePrefix = "file:"

// DecodeRepositoryParameters translates the body of POST /v2/repository/models/{model}/load and …/unload.
func DecodeRepositoryParameters(body []byte) (map[string]*pb.ModelRepositoryParameter, error) {
	parameters := map[string]*pb.ModelRepositoryParameter{}
	err := decodeObject(body, func(s *scanner, key string) error {
		if key != "parameters" {
			return s.skip()
		}
		return s.object(func(name string) (err error) {
			parameters[name], err = s.repositoryParameter(strings.HasPrefix(name, filePrefix))
			return err
		})
	})
	return parameters, err
}

func (s *scanner) repositoryParameter(isFile bool) (*pb.ModelRepositoryParameter, error) {
	const wanted = "a boolean, an integer or a string"
	switch next := s.next(); {
	case isFile:
		content, err := s.base64()
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_BytesParam{BytesParam: content}}, err
	case next == 't' || next == 'f':
		value, err := s.boolean()
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_BoolParam{BoolParam: value}}, err
	case next == '"':
		value, err := s.string()
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_StringParam{StringParam: value}}, err
	}
	text, err := s.number(wanted)
	if err != nil {
		return nil, err
	}
	value, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return nil, &fieldError{text: "must be " + wanted}
	}
	return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_Int64Param{Int64Param: value}}, nil
}

func (s *scanner) base64() ([]byte, error) {
	text, err := s.string()
	if err != nil {
		return nil, err
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, &fieldError{text: fmt.Sprintf("must be a file in base64: %v", err)}
	}
	return content, nil
}
