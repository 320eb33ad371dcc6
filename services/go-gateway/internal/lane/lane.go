// Package lane carries ModelInfer calls to one inference server as messages of one stream that stays open, which costs either
// side half of what calls of their own do. The contract is services/contract/proto/lane.proto. Package backend decides who gets
// a lane and which calls take it.
package lane

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	// MaxRequestBytes is the largest request that goes by lane: a larger one costs much by itself, and would hold others up.
	MaxRequestBytes = 32 << 10
	// roomBytes bounds what the server may not have read yet. grpc-go takes 64 KiB of a stream before SendMsg waits for the
	// server, which no caller may have to do: its deadline may pass meanwhile.
	// https://github.com/grpc/grpc-go/blob/v1.85.0/internal/transport/defaults.go (defaultWriteQuota)
	roomBytes = 60 << 10
	// framingBytes is what gRPC writes before each message.
	framingBytes = 5
	// openTime bounds the opening of a lane.
	openTime = 5 * time.Second
	// endTime is what a server has to end a lane that has no calls left.
	endTime = 5 * time.Second
)

// ErrNotSent means that the lane did not take the call: it may go another way.
var ErrNotSent = errors.New("the lane did not take the call")

// Call is one call of ModelInfer.
type Call struct {
	Request     Request
	Reply       any              // the answer, for the codec to unmarshal
	Codec       encoding.CodecV2 // of the reply
	Traceparent string           // of a trace that isn't sampled; "": none
	RequestID   string           // the header x-request-id; "": none
}

// Lane is an open stream to one server. Its methods may be called concurrently.
type Lane struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
	last   atomic.Uint64 // the number of the last call

	sending sync.Mutex // held around SendMsg; taken before mu

	mu      sync.Mutex
	calls   map[uint64]*waiter // those under way
	sent    int                // bytes, ever
	read    int                // of which the server has certainly read so many: it answers what it has read
	used    bool
	retired bool // takes no more calls
	closed  bool // nothing can be sent any more
}

// waiter is the caller of a call under way.
type waiter struct {
	outcome chan outcome
	sent    int // the lane's bytes up to this call's end
}

// outcome is how a call ended: its answer, which is the receiver's to free, or the failure and the trailer of a unary call's.
type outcome struct {
	answer  mem.Buffer
	failure error
	trailer metadata.MD
}

var waiters = sync.Pool{New: func() any { return &waiter{outcome: make(chan outcome, 1)} }}

// Open opens a stream and returns when the server has accepted it, or why it didn't. The stream lives no longer than ctx. Whoever
// opened it must call Receive.
func Open(ctx context.Context, conn grpc.ClientConnInterface) (*Lane, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(openTime, cancel)
	stream, err := conn.NewStream(ctx, &pb.Lane_ServiceDesc.Streams[0], pb.Lane_Carry_FullMethodName, grpc.ForceCodecV2(codec{}))
	if err == nil {
		err = accepted(stream)
	}
	if !late.Stop() && err == nil {
		err = status.Error(codes.DeadlineExceeded, "the lane was not accepted in time")
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &Lane{stream: stream, cancel: cancel, calls: map[uint64]*waiter{}}, nil
}

// accepted waits for the server's header. A stream that ended without one tells why where its first message would be.
func accepted(stream grpc.ClientStream) error {
	header, err := stream.Header()
	if header == nil && err == nil {
		err = stream.RecvMsg(new(mem.Buffer))
	}
	return err
}

// Do makes a call. The error is ErrNotSent, or what a unary call would have failed with, with its trailer.
func (l *Lane) Do(ctx context.Context, call *Call) (metadata.MD, error) {
	w := waiters.Get().(*waiter)
	defer waiters.Put(w) // nobody else has it any more when Do returns
	number, err := l.send(ctx, call, w)
	if err != nil {
		return nil, err
	}
	var end outcome
	select {
	case end = <-w.outcome:
	case <-ctx.Done():
		if l.withdraw(number) {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		end = <-w.outcome // it came at this moment
	}
	if end.failure != nil {
		return end.trailer, end.failure
	}
	defer end.answer.Free()
	if err := call.Codec.Unmarshal(mem.BufferSlice{end.answer}, call.Reply); err != nil {
		return nil, status.Errorf(codes.Internal, "the inference server's answer cannot be read: %v", err)
	}
	return nil, nil
}

func (l *Lane) send(ctx context.Context, call *Call, w *waiter) (uint64, error) {
	number := l.last.Add(1)
	message, err := marshal(ctx, number, call)
	if err != nil {
		return 0, ErrNotSent
	}
	l.sending.Lock()
	defer l.sending.Unlock()
	if !l.enter(number, w, len(message)) {
		return 0, ErrNotSent
	}
	if l.stream.SendMsg(message) == nil {
		return number, nil
	}
	// The stream has ended, and the call never left. Receive fails all calls that it finds.
	if !l.take(number) {
		<-w.outcome
	}
	return 0, ErrNotSent
}

// enter notes a call that is about to be sent, where there is room for it.
func (l *Lane) enter(number uint64, w *waiter, size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired || l.closed || !l.reserve(size) {
		return false
	}
	w.sent = l.sent
	l.used = true
	l.calls[number] = w
	return true
}

// reserve says whether there is room for a message of this size, and takes it.
func (l *Lane) reserve(size int) bool {
	if l.sent-l.read+size+framingBytes > roomBytes {
		return false
	}
	l.sent += size + framingBytes
	return true
}

// take removes a call, and says whether it was under way still.
func (l *Lane) take(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, under := l.calls[number]
	delete(l.calls, number)
	return under
}

// withdraw ends a call for its caller, and says whether it was under way still. The server is told where there is room; it knows
// the deadline by itself.
func (l *Lane) withdraw(number uint64) bool {
	if !l.take(number) {
		return false
	}
	message := cancellation(number)
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	tell := !l.closed && l.reserve(len(message))
	l.mu.Unlock()
	if tell {
		_ = l.stream.SendMsg(message) // where it fails the stream has ended, and the call with it
	}
	l.closeIfDone()
	return true
}

// Receive hands out the answers until the stream ends, and returns why it did: nil where the lane had been retired.
func (l *Lane) Receive() error {
	defer l.cancel()
	for {
		var message mem.Buffer
		err := l.stream.RecvMsg(&message)
		if err == nil {
			err = l.deliver(message)
			message.Free()
		}
		if err != nil {
			return l.end(err)
		}
	}
}

// deliver wakes the caller that a message is for; nobody, where the caller has left.
func (l *Lane) deliver(message mem.Buffer) error {
	number, end, err := unmarshal(message)
	if err != nil {
		return err
	}
	l.mu.Lock()
	w := l.calls[number]
	delete(l.calls, number)
	if w != nil {
		l.read = max(l.read, w.sent)
	}
	last := l.retired && len(l.calls) == 0
	l.mu.Unlock()
	switch {
	case w != nil:
		w.outcome <- end
	case end.answer != nil:
		end.answer.Free()
	}
	if last {
		l.sending.Lock()
		defer l.sending.Unlock()
		l.closeIfDone()
	}
	return nil
}

// end fails the calls that have no answer.
func (l *Lane) end(cause error) error {
	l.mu.Lock()
	orphans, planned := l.calls, l.retired
	l.calls, l.closed = nil, true
	l.mu.Unlock()
	reported, trailer := status.Convert(cause), l.stream.Trailer()
	end := outcome{failure: status.Errorf(codes.Unavailable, "the stream to the inference server broke: %s", reported.Message())}
	if code := trailer.Get(apierr.CodeTrailer); reported.Code() == codes.Unavailable && len(code) > 0 && code[0] == apierr.ServerDraining {
		end = outcome{failure: reported.Err(), trailer: trailer} // none of them was run
	}
	for _, w := range orphans {
		w.outcome <- end
	}
	if planned {
		return nil
	}
	return cause
}

// Retire lets the calls under way end, and then the stream. It takes no others.
func (l *Lane) Retire() {
	l.mu.Lock()
	l.retired = true
	l.mu.Unlock()
	l.sending.Lock()
	defer l.sending.Unlock()
	l.closeIfDone()
}

// closeIfDone half-closes a retired lane without calls; the caller holds sending. A server that doesn't end the stream then is
// not waited for long.
func (l *Lane) closeIfDone() {
	l.mu.Lock()
	done := l.retired && !l.closed && len(l.calls) == 0
	l.closed = l.closed || done
	l.mu.Unlock()
	if done {
		_ = l.stream.CloseSend() // it never fails
		time.AfterFunc(endTime, l.cancel)
	}
}

// Used says whether any call went by the lane.
func (l *Lane) Used() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Stuck says whether the lane will take no call any more: what fills it are calls that all were withdrawn, so that no
// answer will tell that they were read.
func (l *Lane) Stuck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls) == 0 && l.sent-l.read > roomBytes-MaxRequestBytes
}
