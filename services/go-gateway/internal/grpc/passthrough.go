package grpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/administration"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	traceIDTrailer = "x-trace-id"
	// unmatched is what logs and metrics call a method that the contract doesn't have.
	unmatched = "unmatched"
	// grpc-go resets a caller's stream at its deadline, without a status; a caller whose own clock is a moment later then
	// reads CANCELLED. So the call to the pod ends earlier, by a twentieth of its time and no more than answerTime.
	answerShare = 20
	answerTime  = 20 * time.Millisecond
)

// method serves one call of one RPC and returns the trailer of the pod's answer.
type method func(stream grpc.ServerStream, name string) (metadata.MD, error)

// passthrough hands every RPC of the contract to a pod, or, where it concerns all, to the administration.
type passthrough struct {
	Options
	codec   grpc.CallOption
	methods map[string]method // by full name
}

func newPassthrough(options Options) *passthrough {
	p := &passthrough{Options: options, codec: grpc.ForceCodecV2(newCodec()), methods: map[string]method{}}
	contract := pb.GRPCInferenceService_ServiceDesc
	for _, unary := range contract.Methods {
		serve := p.unary
		if administration.Serves(unary.MethodName) {
			serve = p.administer(unary.Handler)
		}
		p.methods[fullName(contract, unary.MethodName)] = serve
	}
	for _, stream := range contract.Streams {
		p.methods[fullName(contract, stream.StreamName)] = p.stream
	}
	p.methods[pb.GRPCInferenceService_ModelInfer_FullMethodName] = p.infer
	p.methods[pb.GRPCInferenceService_ServerLive_FullMethodName] = p.serverLive
	p.methods[pb.GRPCInferenceService_ServerReady_FullMethodName] = p.serverReady
	return p
}

func fullName(contract grpc.ServiceDesc, method string) string {
	return "/" + contract.ServiceName + "/" + method
}

// handle is where a call's error becomes a status, a log line and a metric, once each.
func (p *passthrough) handle(_ any, stream grpc.ServerStream) error {
	start := time.Now()
	p.Metrics.InFlight(1)
	defer p.Metrics.InFlight(-1)

	name, _ := grpc.MethodFromServerStream(stream)
	serve, known := p.methods[name]
	if !known {
		serve = unknownMethod
	}
	trailer, err := metadata.MD(nil), p.admit(stream.Context(), name)
	if err == nil {
		trailer, err = serve(stream, name)
	}
	passed := passable(trailer)
	service, rpc := labels(name, known)
	if err == nil {
		stream.SetTrailer(passed)
		p.Metrics.Observe(service, rpc, int(codes.OK), "", time.Since(start).Seconds())
		return nil
	}
	failure := apierr.FromCall(err, trailer)
	traceID := apierr.TraceID(stream.Context())
	passed.Set(apierr.CodeTrailer, failure.Code)
	if traceID != "" {
		passed.Set(traceIDTrailer, traceID)
	}
	stream.SetTrailer(passed)
	p.logFailure(stream.Context(), name, failure, time.Since(start))
	p.Metrics.Observe(service, rpc, int(failure.GRPC), failure.Code, time.Since(start).Seconds())
	return failure.Status(traceID).Err()
}

// labels are the service and method for metrics, where a caller may not put in names of its own.
func labels(name string, known bool) (service, rpc string) {
	if !known {
		return unmatched, unmatched
	}
	service, rpc, _ = strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return service, rpc
}

func (p *passthrough) logFailure(ctx context.Context, name string, failure *apierr.Error, elapsed time.Duration) {
	attributes := []slog.Attr{
		slog.String("rpc", name),
		slog.String("status", failure.GRPC.String()),
		slog.String("code", failure.Code),
		slog.String("error", failure.Message),
		slog.Duration("elapsed", elapsed),
	}
	if id := requestID(ctx); id != "" {
		attributes = append(attributes, slog.String("requestId", id))
	}
	p.Logger.LogAttrs(ctx, failure.LogLevel(), "Failed call", attributes...)
}

func unknownMethod(_ grpc.ServerStream, name string) (metadata.MD, error) {
	return nil, apierr.New(apierr.RouteNotFound, "no such method: %s; the methods are those of %s", name, pb.GRPCInferenceService_ServiceDesc.ServiceName)
}

// unary passes one request and its answer on.
func (p *passthrough) unary(stream grpc.ServerStream, name string) (metadata.MD, error) {
	request, err := p.receive(stream)
	if err != nil {
		return nil, err
	}
	return p.forward(stream, name, request)
}

func (p *passthrough) forward(stream grpc.ServerStream, name string, request *frame) (metadata.MD, error) {
	ctx, cancel := p.bounded(stream.Context())
	defer cancel()
	return p.exchange(outgoing(ctx), stream, name, request)
}

func (p *passthrough) exchange(ctx context.Context, stream grpc.ServerStream, name string, request *frame) (metadata.MD, error) {
	var (
		response        frame
		header, trailer metadata.MD
	)
	err := p.Backend.Invoke(ctx, name, request, &response, p.codec, grpc.Header(&header), grpc.Trailer(&trailer))
	if failed := stream.SetHeader(passable(header)); failed != nil {
		return nil, failed
	}
	if err != nil {
		return trailer, err
	}
	return trailer, stream.SendMsg(&response)
}

// bounded gives a call without a deadline the default one, and leaves time to answer within a deadline that it has.
func (p *passthrough) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, p.DefaultTimeout)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/answerShare, answerTime)))
}

// receive takes the one message of a unary call.
func (p *passthrough) receive(stream grpc.ServerStream) (*frame, error) {
	request := new(frame)
	if err := stream.RecvMsg(request); err != nil {
		return nil, err
	}
	return request, p.withinLimit(len(request.bytes))
}

func (p *passthrough) withinLimit(size int) error {
	if int64(size) > p.MaxRequestBytes {
		return apierr.New(apierr.MessageTooLarge, "the request has %d bytes, more than limits.maxRequestBytes = %d allows; send smaller tensors or raise the limit",
			size, p.MaxRequestBytes)
	}
	return nil
}

// serverLive answers for the gateway: it is live if it can answer.
func (p *passthrough) serverLive(stream grpc.ServerStream, _ string) (metadata.MD, error) {
	if _, err := p.receive(stream); err != nil {
		return nil, err
	}
	return nil, stream.SendMsg(&pb.ServerLiveResponse{Live: true})
}

// serverReady asks a pod; that none can be reached is an answer, not a failure.
func (p *passthrough) serverReady(stream grpc.ServerStream, name string) (metadata.MD, error) {
	request, err := p.receive(stream)
	if err != nil {
		return nil, err
	}
	trailer, err := p.forward(stream, name, request)
	if status.Code(err) == codes.Unavailable {
		return nil, stream.SendMsg(&pb.ServerReadyResponse{Ready: false})
	}
	return trailer, err
}

// stream passes messages on in both directions until the pod ends the call, or either side fails.
func (p *passthrough) stream(caller grpc.ServerStream, name string) (metadata.MD, error) {
	ctx, cancel := context.WithCancelCause(caller.Context())
	defer cancel(nil)
	pod, err := p.Backend.NewStream(outgoing(ctx), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name, p.codec)
	if err != nil {
		return nil, err
	}
	go p.upload(caller, pod, cancel)
	trailer, err := download(pod, caller)
	if fault := context.Cause(ctx); fault != nil && caller.Context().Err() == nil {
		err = fault // the upload's, which ended the call to the pod
	}
	return trailer, err
}

// upload ends with the caller's last message; a fault of the caller ends the call to the pod. It stops at the latest when
// the call returns, which fails RecvMsg.
func (p *passthrough) upload(caller grpc.ServerStream, pod grpc.ClientStream, fail context.CancelCauseFunc) {
	for {
		request := new(frame)
		err := caller.RecvMsg(request)
		if errors.Is(err, io.EOF) {
			err = pod.CloseSend()
			if err == nil {
				return
			}
		}
		if err == nil {
			err = p.withinLimit(len(request.bytes))
		}
		if err != nil {
			fail(err)
			return
		}
		if pod.SendMsg(request) != nil {
			return // the pod has ended the call; download knows how
		}
	}
}

// download returns the pod's trailer when the pod has ended the call, with nil for success.
func download(pod grpc.ClientStream, caller grpc.ServerStream) (metadata.MD, error) {
	header, err := pod.Header()
	if err != nil {
		return pod.Trailer(), err
	}
	if err := caller.SendHeader(passable(header)); err != nil {
		return nil, err
	}
	for {
		response := new(frame)
		err := pod.RecvMsg(response)
		if errors.Is(err, io.EOF) {
			return pod.Trailer(), nil
		}
		if err != nil {
			return pod.Trailer(), err
		}
		if err := caller.SendMsg(response); err != nil {
			return nil, err
		}
	}
}
