package apierr

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the namespace of the codes in the ErrorInfo of a gRPC status.
const Domain = "polyglot.dev"

// The trailers in which a backend says when to try again: gRPC's own, in milliseconds, and HTTP's, in seconds.
// https://github.com/grpc/proposal/blob/master/A6-client-retries.md
const (
	pushbackTrailer   = "grpc-retry-pushback-ms"
	retryAfterTrailer = "retry-after"
)

// GRPCStatus is the status that a gRPC caller outside of a trace gets.
func (e *Error) GRPCStatus() *status.Status { return e.Status("") }

// Status is the status that a gRPC caller gets. Its details are those of the backend, google.rpc.ErrorInfo with the code and the
// trace id, and google.rpc.RetryInfo where the call may be tried again.
func (e *Error) Status(traceID string) *status.Status {
	answer := status.New(e.GRPC, e.Message)
	var details []protoadapt.MessageV1
	informed, timed := false, false
	for _, detail := range e.reported.Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			informed = informed || known.GetDomain() == Domain
		case *errdetails.RetryInfo:
			timed = true
		}
		if message, ok := detail.(protoadapt.MessageV1); ok {
			details = append(details, message)
		}
	}
	if !informed {
		details = append(details, &errdetails.ErrorInfo{Reason: e.Code, Domain: Domain, Metadata: traceOf(traceID)})
	}
	if e.RetryAfter > 0 && !timed {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	detailed, err := answer.WithDetails(details...)
	if err != nil {
		return answer // OK has no details, and no failure is OK
	}
	return detailed
}

func traceOf(id string) map[string]string {
	if id == "" {
		return nil
	}
	return map[string]string{"traceId": id}
}

// pushbackOf is when a backend wants to be asked again, 0 where it doesn't say.
func pushbackOf(reported *status.Status, trailer metadata.MD) time.Duration {
	for _, detail := range reported.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	if pushback := firstNumber(trailer, pushbackTrailer); pushback > 0 {
		return time.Duration(pushback) * time.Millisecond
	}
	return time.Duration(firstNumber(trailer, retryAfterTrailer)) * time.Second
}

func firstNumber(trailer metadata.MD, key string) int32 {
	for _, text := range trailer.Get(key) {
		if number, err := strconv.ParseInt(text, 10, 32); err == nil {
			return int32(number)
		}
	}
	return 0
}
