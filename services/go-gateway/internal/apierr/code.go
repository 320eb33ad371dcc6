package apierr

import (
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
)

// Codes of failed calls. They are part of the interface: added, never renamed.
//
// The first group is shared with the inference server, which sends them in the trailer `x-error-code`; the second is the
// gateway's own; the third names gRPC statuses that arrive without a code.
const (
	InvalidRequest     = "INVALID_REQUEST"
	InvalidTensor      = "INVALID_TENSOR"
	ModelNotFound      = "MODEL_NOT_FOUND"
	ModelNotReady      = "MODEL_NOT_READY"
	ServerDraining     = "SERVER_DRAINING"
	MessageTooLarge    = "MESSAGE_TOO_LARGE"
	HeadersTooLarge    = "HEADERS_TOO_LARGE"
	RequestTimeout     = "REQUEST_TIMEOUT"
	DeadlineExceeded   = "DEADLINE_EXCEEDED"
	Unsupported        = "UNSUPPORTED"
	ModelFailed        = "MODEL_FAILED"
	PartialFailure     = "PARTIAL_FAILURE"
	ModelLoadFailed    = "MODEL_LOAD_FAILED"
	QueueFull          = "QUEUE_FULL"
	Internal           = "INTERNAL"
	RouteNotFound      = "ROUTE_NOT_FOUND"
	MethodNotAllowed   = "METHOD_NOT_ALLOWED"
	UnsupportedCoding  = "UNSUPPORTED_CODING"
	Unrepresentable    = "UNREPRESENTABLE"
	Unavailable        = "UNAVAILABLE"
	Cancelled          = "CANCELLED"
	InvalidArgument    = "INVALID_ARGUMENT"
	NotFound           = "NOT_FOUND"
	Unimplemented      = "UNIMPLEMENTED"
	ResourceExhausted  = "RESOURCE_EXHAUSTED"
	PermissionDenied   = "PERMISSION_DENIED"
	Unauthenticated    = "UNAUTHENTICATED"
	AlreadyExists      = "ALREADY_EXISTS"
	FailedPrecondition = "FAILED_PRECONDITION"
	OutOfRange         = "OUT_OF_RANGE"
	Aborted            = "ABORTED"
	DataLoss           = "DATA_LOSS"
	Unknown            = "UNKNOWN"
)

// statusClientClosedRequest is what nginx logs when the caller hung up; net/http has no name for it.
const statusClientClosedRequest = 499

// Definition is one row of the table of codes.
type Definition struct {
	Code string
	HTTP int
	GRPC codes.Code
	// RetryAfter is when the call may be tried again, where the backend does not say; 0: again as it is, it would fail again.
	RetryAfter time.Duration
	Meaning    string
}

// Definitions is the one table of codes: HTTP status and gRPC status as Triton maps them
// (https://github.com/triton-inference-server/server/blob/main/docs/protocol/README.md), plus those of a gateway.
// Every 429 and 503 has a RetryAfter.
//
// Where several codes share a gRPC status, a call that failed with the bare status gets the last of them.
var Definitions = []Definition{
	{InvalidRequest, http.StatusBadRequest, codes.InvalidArgument, 0, "the request contradicts itself, the protocol or the model's metadata"},
	{InvalidTensor, http.StatusBadRequest, codes.InvalidArgument, 0, "one tensor of the request is wrong; the text names it"},
	{Unrepresentable, http.StatusBadRequest, codes.InvalidArgument, 0, "the result has no JSON form (FP16, BF16, NaN, infinity, text that is not UTF-8); ask for binary data or call by gRPC"},
	{HeadersTooLarge, http.StatusRequestHeaderFieldsTooLarge, codes.InvalidArgument, 0, "the headers of a REST call are larger than 64 KiB"},
	{InvalidArgument, http.StatusBadRequest, codes.InvalidArgument, 0, "a backend refused the request and sent no code"},
	{ModelNotFound, http.StatusNotFound, codes.NotFound, 0, "no model of that name, or not in that version"},
	{NotFound, http.StatusNotFound, codes.NotFound, 0, "what an administrative call names, for example a shared memory region, does not exist"},
	{ModelNotReady, http.StatusServiceUnavailable, codes.Unavailable, 5 * time.Second, "the model is unknown, loading or unloaded"},
	{ServerDraining, http.StatusServiceUnavailable, codes.Unavailable, time.Second, "a backend is shutting down; this call was not executed"},
	{Unavailable, http.StatusServiceUnavailable, codes.Unavailable, time.Second, "no backend could be reached"},
	{MessageTooLarge, http.StatusRequestEntityTooLarge, codes.ResourceExhausted, 0, "a request or response exceeds the limit on its size"},
	{QueueFull, http.StatusTooManyRequests, codes.ResourceExhausted, time.Second, "too much waits for the model already; the header says when to try again"},
	{ResourceExhausted, http.StatusTooManyRequests, codes.ResourceExhausted, time.Second, "a limit was reached; try again later"},
	{RequestTimeout, http.StatusRequestTimeout, codes.DeadlineExceeded, 0, "the request had not arrived in full when its deadline passed"},
	{DeadlineExceeded, http.StatusGatewayTimeout, codes.DeadlineExceeded, 0, "the caller's deadline, or the default one, passed"},
	{Cancelled, statusClientClosedRequest, codes.Canceled, 0, "the caller went away before the answer"},
	{RouteNotFound, http.StatusNotFound, codes.Unimplemented, 0, "no such path"},
	{MethodNotAllowed, http.StatusMethodNotAllowed, codes.Unimplemented, 0, "the path exists, with other methods; see the header Allow"},
	{UnsupportedCoding, http.StatusUnsupportedMediaType, codes.Unimplemented, 0, "the request body is compressed otherwise than by gzip or deflate"},
	{Unsupported, http.StatusNotImplemented, codes.Unimplemented, 0, "a part of the protocol that is not offered"},
	{Unimplemented, http.StatusNotImplemented, codes.Unimplemented, 0, "a backend does not offer this call and sent no code"},
	{PermissionDenied, http.StatusForbidden, codes.PermissionDenied, 0, "the caller may not do this"},
	{Unauthenticated, http.StatusUnauthorized, codes.Unauthenticated, 0, "the caller did not say who it is"},
	{ModelFailed, http.StatusInternalServerError, codes.Internal, 0, "the model raised, or answered something other than it declares"},
	{PartialFailure, http.StatusInternalServerError, codes.Internal, 0, "some inference servers did what was asked of all, and others failed; the text names both; repeat the call once the cause is gone"},
	{ModelLoadFailed, http.StatusInternalServerError, codes.Internal, 0, "a model could not be loaded at runtime; the one that was served before, if any, is served still"},
	{Internal, http.StatusInternalServerError, codes.Internal, 0, "a fault of the gateway or of a backend"},
	{AlreadyExists, http.StatusBadRequest, codes.AlreadyExists, 0, "what an administrative call would create, for example a shared memory region, exists"},
	{FailedPrecondition, http.StatusBadRequest, codes.FailedPrecondition, 0, "a backend is not in the state the call needs, and sent no code"},
	{OutOfRange, http.StatusBadRequest, codes.OutOfRange, 0, "a backend refused a value, and sent no code"},
	{Aborted, http.StatusInternalServerError, codes.Aborted, 0, "a backend gave up the call, and sent no code"},
	{DataLoss, http.StatusInternalServerError, codes.DataLoss, 0, "a backend lost data, and sent no code"},
	{Unknown, http.StatusInternalServerError, codes.Unknown, 0, "a backend failed without saying how"},
}

var (
	byCode   = indexByCode()
	byStatus = indexByStatus()
)

func indexByCode() map[string]Definition {
	index := make(map[string]Definition, len(Definitions))
	for _, definition := range Definitions {
		index[definition.Code] = definition
	}
	return index
}

func indexByStatus() map[codes.Code]Definition {
	index := make(map[codes.Code]Definition, len(Definitions))
	for _, definition := range Definitions {
		index[definition.GRPC] = definition
	}
	return index
}
