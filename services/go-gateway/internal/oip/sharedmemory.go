package oip

import (
	"maps"
	"slices"
	"strconv"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// inSharedMemory says whether a tensor lies in a shared-memory region, so that its data is not in the message.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
func inSharedMemory(parameters map[string]*pb.InferParameter) bool {
	return parameters["shared_memory_region"] != nil
}

// DecodeRegisterRequest translates the body of POST /v2/systemsharedmemory/region/{region}/register.
func DecodeRegisterRequest(body []byte, region string) (*pb.SystemSharedMemoryRegisterRequest, error) {
	request := &pb.SystemSharedMemoryRegisterRequest{Name: region}
	missing := newFields(fieldsOfRegion)
	err := decodeObject(body, func(s *scanner, key string) (err error) {
		missing.remove(key)
		switch key {
		case "key":
			request.Key, err = s.string()
		case "offset":
			request.Offset, err = s.unsigned()
		case "byte_size":
			request.ByteSize, err = s.unsigned()
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		if err = missing.err(); err != nil {
			err = refusal(err)
		}
	}
	return request, err
}

func (s *scanner) unsigned() (uint64, error) {
	const wanted = "an integer from 0 up, of at most 64 bits"
	text, err := s.number(wanted)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, &fieldError{text: "must be " + wanted}
	}
	return value, nil
}

// AppendRegions appends the answer to GET /v2/systemsharedmemory[/region/{region}]/status: an array, where gRPC has a map.
func AppendRegions(dst []byte, regions map[string]*pb.SystemSharedMemoryStatusResponse_RegionStatus) []byte {
	dst = append(dst, '[')
	for index, name := range slices.Sorted(maps.Keys(regions)) {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = AppendMessage(dst, regions[name])
	}
	return append(dst, ']')
}
