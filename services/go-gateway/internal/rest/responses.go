package rest

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// errorsAsStatus asks a backend to end the stream with the status of a request that fails, which has a code, where it
// would otherwise send a text and go on. Source: triton-inference-server/server, src/grpc/stream_infer_handler.cc.
const errorsAsStatus = "triton_grpc_error"

// responses is the sequence of a model's responses to one request. At most one waits here: as long as nobody takes it, no
// other is received, and flow control holds the model back.
type responses struct {
	received chan response
	timeouts Streaming
	count    int
}

type response struct {
	*pb.ModelInferResponse
	err error // io.EOF after the last response
}

// respond has the model answer until ctx ends.
func (s *server) respond(ctx context.Context, request *pb.ModelInferRequest, decoupled bool) *responses {
	r := &responses{received: make(chan response), timeouts: s.Streaming}
	receive := s.receiveOne
	if decoupled {
		receive = s.receiveAll
	}
	go func() {
		err := receive(ctx, request, func(one *pb.ModelInferResponse) error { return r.deliver(ctx, response{one, nil}) })
		if err == nil {
			err = io.EOF
		}
		_ = r.deliver(ctx, response{nil, err}) // fails where ctx has ended, and then nobody waits
	}()
	return r
}

func (r *responses) deliver(ctx context.Context, one response) error {
	select {
	case r.received <- one:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *server) receiveOne(ctx context.Context, request *pb.ModelInferRequest, deliver func(*pb.ModelInferResponse) error) error {
	one, err := backend.Call(ctx, s.Client.ModelInfer, request)
	if err != nil {
		return err
	}
	return deliver(one)
}

func (s *server) receiveAll(ctx context.Context, request *pb.ModelInferRequest, deliver func(*pb.ModelInferResponse) error) error {
	stream, err := s.Client.ModelStreamInfer(metadata.AppendToOutgoingContext(ctx, errorsAsStatus, "true"))
	if err != nil {
		return apierr.From(err)
	}
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv says what failed
		return apierr.From(err)
	}
	if err := stream.CloseSend(); err != nil {
		return apierr.From(err)
	}
	for {
		message, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return apierr.FromCall(err, stream.Trailer())
		case message.GetErrorMessage() != "":
			return apierr.New(apierr.ModelFailed, "%s", message.GetErrorMessage())
		case oip.EndsStream(message.GetInferResponse()):
			continue
		}
		if err := deliver(message.GetInferResponse()); err != nil {
			return err
		}
	}
}

// next waits for the next response, nil after the last one; meanwhile idle is called again and again.
func (r *responses) next(ctx context.Context, idle func() error) (*pb.ModelInferResponse, error) {
	within, key := r.timeouts.FirstResponse, "firstResponseTimeout"
	if r.count > 0 {
		within, key = r.timeouts.BetweenResponses, "responseTimeout"
	}
	late := time.NewTimer(within)
	defer late.Stop()
	heartbeat := time.NewTicker(r.timeouts.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case one := <-r.received:
			if errors.Is(one.err, io.EOF) {
				return nil, nil //nolint:nilnil // the end is no failure
			}
			if one.err != nil {
				return nil, whyFailed(ctx, one.err)
			}
			r.count++
			return one.ModelInferResponse, nil
		case <-heartbeat.C:
			if err := idle(); err != nil {
				return nil, err
			}
		case <-late.C:
			return nil, apierr.New(apierr.DeadlineExceeded, "the model gave no response for streaming.%s = %v", key, within)
		case <-r.timeouts.Ending:
			return nil, apierr.New(apierr.ServerDraining, "the gateway is shutting down and ends the stream; call again")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// whyFailed is the end of the context where it has ended, else err. The deadline is read from the clock: the pod, which has the same one, can
// be sooner to say so than the context's timer.
func whyFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return err
}
