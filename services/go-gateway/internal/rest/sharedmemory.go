package rest

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// regionOf is the region that the path names; "" where it names none, which means all.
func regionOf(r *http.Request) (string, error) {
	name := r.PathValue("region")
	if !utf8.ValidString(name) {
		return "", apierr.New(apierr.InvalidRequest, "the region's name in the path must be UTF-8 text")
	}
	return name, nil
}

func (s *server) memoryStatus(ctx context.Context, r *http.Request) ([]byte, error) {
	region, err := regionOf(r)
	if err != nil {
		return nil, err
	}
	response, err := s.Administration.SystemSharedMemoryStatus(ctx, &pb.SystemSharedMemoryStatusRequest{Name: region})
	return encoded(response.GetRegions(), err, oip.AppendRegions)
}

// memoryRegister registers a region; success has no body.
func (s *server) memoryRegister(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	region, err := regionOf(r)
	if err != nil {
		return nil, err
	}
	request, err := oip.DecodeRegisterRequest(body, region)
	if err != nil {
		return nil, err
	}
	_, err = s.Administration.SystemSharedMemoryRegister(ctx, request)
	return nil, err
}

// memoryUnregister forgets a region, or all; success has no body.
func (s *server) memoryUnregister(ctx context.Context, r *http.Request) ([]byte, error) {
	region, err := regionOf(r)
	if err != nil {
		return nil, err
	}
	_, err = s.Administration.SystemSharedMemoryUnregister(ctx, &pb.SystemSharedMemoryUnregisterRequest{Name: region})
	return nil, err
}

// cudaMemory refuses every call: the handle of a region is not even read.
func (s *server) cudaMemory(ctx context.Context, _ *http.Request) ([]byte, error) {
	_, err := s.Administration.CudaSharedMemoryStatus(ctx, &pb.CudaSharedMemoryStatusRequest{})
	return nil, err
}
