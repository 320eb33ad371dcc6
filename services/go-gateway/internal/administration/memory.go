package administration

import (
	"context"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// memory refuses what is not shared with the pods. A tensor in a region that could not be registered is refused by the pods,
// in the same words, because only they read every request.
func (s *Service) memory() error {
	if s.SharedMemory {
		return nil
	}
	return apierr.New(apierr.Unsupported, "system shared memory is off: it needs sharedMemory.enabled in the settings of the server and of a gateway in front of it, both on one machine (backend.sockets); send the tensors in the request")
}

// SystemSharedMemoryStatus lists the regions, which are the same everywhere.
func (s *Service) SystemSharedMemoryStatus(ctx context.Context, request *pb.SystemSharedMemoryStatusRequest) (*pb.SystemSharedMemoryStatusResponse, error) {
	if err := s.memory(); err != nil {
		return nil, err
	}
	return first(ctx, s, s.Client.SystemSharedMemoryStatus, request)
}

// SystemSharedMemoryRegister registers a region everywhere.
func (s *Service) SystemSharedMemoryRegister(ctx context.Context, request *pb.SystemSharedMemoryRegisterRequest) (*pb.SystemSharedMemoryRegisterResponse, error) {
	if err := s.memory(); err != nil {
		return nil, err
	}
	return everywhere(ctx, s, s.Client.SystemSharedMemoryRegister, request)
}

// SystemSharedMemoryUnregister forgets one region, or all, everywhere.
func (s *Service) SystemSharedMemoryUnregister(ctx context.Context, request *pb.SystemSharedMemoryUnregisterRequest) (*pb.SystemSharedMemoryUnregisterResponse, error) {
	if err := s.memory(); err != nil {
		return nil, err
	}
	return everywhere(ctx, s, s.Client.SystemSharedMemoryUnregister, request)
}

func noCUDA() error {
	return apierr.New(apierr.Unsupported, "CUDA shared memory is not offered: a handle of another process's GPU memory crosses no pod; send the tensors in the request")
}

// CudaSharedMemoryStatus refuses.
func (s *Service) CudaSharedMemoryStatus(context.Context, *pb.CudaSharedMemoryStatusRequest) (*pb.CudaSharedMemoryStatusResponse, error) {
	return nil, noCUDA()
}

// CudaSharedMemoryRegister refuses.
func (s *Service) CudaSharedMemoryRegister(context.Context, *pb.CudaSharedMemoryRegisterRequest) (*pb.CudaSharedMemoryRegisterResponse, error) {
	return nil, noCUDA()
}

// CudaSharedMemoryUnregister refuses.
func (s *Service) CudaSharedMemoryUnregister(context.Context, *pb.CudaSharedMemoryUnregisterRequest) (*pb.CudaSharedMemoryUnregisterResponse, error) {
	return nil, noCUDA()
}
