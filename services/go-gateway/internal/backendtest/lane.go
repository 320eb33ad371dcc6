package backendtest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// laneServer serves a pod's lanes.
type laneServer struct {
	pb.UnimplementedLaneServer
	pod *Pod
}

func (s laneServer) Carry(stream pb.Lane_CarryServer) error { return s.pod.Lane(stream) }

// Carried is a server's side of the lanes of one pod: each message is a call of the pod's ModelInfer.
type Carried struct {
	pod *Pod

	mu       sync.Mutex
	requests []*pb.LaneRequest
	lanes    int
	drained  chan struct{}
}

// ServeLanes makes the pod offer lanes; call it before the pod is started, in `prepare`.
func ServeLanes(pod *Pod) *Carried {
	c := &Carried{pod: pod, drained: make(chan struct{})}
	pod.Lane = c.carry
	return c
}

// Requests are the messages that came by lane.
func (c *Carried) Requests() []*pb.LaneRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*pb.LaneRequest(nil), c.requests...)
}

// Lanes counts the lanes that were opened.
func (c *Carried) Lanes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes
}

// Drain ends the lanes as a server does that shuts down: calls without an answer never ran.
func (c *Carried) Drain() { close(c.drained) }

func (c *Carried) carry(stream pb.Lane_CarryServer) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	c.mu.Lock()
	c.lanes++
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel() // calls without an answer end
	ended := make(chan error, 1)
	go func() { ended <- c.receive(ctx, stream) }()
	select {
	case err := <-ended:
		return err
	case <-c.drained:
		stream.SetTrailer(metadata.Pairs(apierr.CodeTrailer, apierr.ServerDraining))
		return status.Error(codes.Unavailable, "shutting down")
	}
}

func (c *Carried) receive(ctx context.Context, stream pb.Lane_CarryServer) error {
	var (
		sending sync.Mutex
		calls   sync.WaitGroup
	)
	cancels := map[uint64]context.CancelFunc{}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			calls.Wait()
			return nil
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.requests = append(c.requests, request)
		c.mu.Unlock()
		if request.GetCancel() {
			if cancel := cancels[request.GetCall()]; cancel != nil {
				cancel()
			}
			continue
		}
		ctx, cancel := timed(ctx, request.GetTimeoutMicroseconds())
		cancels[request.GetCall()] = cancel
		calls.Go(func() {
			defer cancel()
			response := c.answer(ctx, request)
			if ctx.Err() != nil {
				return
			}
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(response) // the caller may be gone
		})
	}
}

func timed(ctx context.Context, microseconds uint64) (context.Context, context.CancelFunc) {
	if microseconds == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(microseconds)*time.Microsecond)
}

// trailers takes the trailers that an Infer sets with grpc.SetTrailer.
type trailers struct{ all metadata.MD }

func (*trailers) Method() string               { return pb.GRPCInferenceService_ModelInfer_FullMethodName }
func (*trailers) SetHeader(metadata.MD) error  { return nil }
func (*trailers) SendHeader(metadata.MD) error { return nil }
func (t *trailers) SetTrailer(md metadata.MD) error {
	t.all = metadata.Join(t.all, md)
	return nil
}

func (c *Carried) answer(ctx context.Context, request *pb.LaneRequest) *pb.LaneResponse {
	var set trailers
	response, err := c.pod.ModelInfer(grpc.NewContextWithServerTransportStream(ctx, &set), request.GetInfer())
	if err == nil {
		return &pb.LaneResponse{Call: request.GetCall(), Outcome: &pb.LaneResponse_Infer{Infer: response}}
	}
	failure := &pb.LaneFailure{Status: int32(status.Code(err)), Message: status.Convert(err).Message()}
	for key, values := range set.all {
		for _, value := range values {
			failure.Trailers = append(failure.Trailers, &pb.LaneTrailer{Key: key, Value: value})
		}
	}
	return &pb.LaneResponse{Call: request.GetCall(), Outcome: &pb.LaneResponse_Failure{Failure: failure}}
}
