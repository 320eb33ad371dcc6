// Package apierr is every way a call through the gateway can fail: the stable code, the HTTP and gRPC status and the text
// that a caller gets, over REST as {"error", "code", "traceId"}.
package apierr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// CodeTrailer is the trailing metadata in which a backend, and the gateway itself, names the code of a failed call.
const CodeTrailer = "x-error-code"

// codeForm keeps whatever a backend sends fit for logs and metric labels.
var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// Error is a failed call. The message is for the caller: it names what is at fault and what to do.
type Error struct {
	Code    string
	HTTP    int
	GRPC    codes.Code
	Message string
	// RetryAfter is when the call may be tried again; 0: again as it is, it would fail again.
	RetryAfter time.Duration
	cause      error
	reported   *status.Status // the backend's, where the failure is its
}

// New makes an error of one of this package's codes; the format's %w, if any, is what errors.Is and errors.As find.
// A code outside the table of codes is a fault of the program and reads as INTERNAL.
func New(code, format string, args ...any) *Error {
	definition, ok := byCode[code]
	if !ok {
		definition = byCode[Internal]
	}
	text := fmt.Errorf(format, args...)
	failure := definition.failure(text.Error())
	failure.cause = errors.Unwrap(text)
	return failure
}

func (d Definition) failure(message string) *Error {
	return &Error{Code: d.Code, HTTP: d.HTTP, GRPC: d.GRPC, RetryAfter: d.RetryAfter, Message: message}
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns what New's format wrapped with %w, or nil.
func (e *Error) Unwrap() error { return e.cause }

// LogLevel tells the caller's faults from those that someone must look at.
func (e *Error) LogLevel() slog.Level {
	switch {
	case e.HTTP == http.StatusInternalServerError:
		return slog.LevelError
	case e.HTTP > http.StatusNotImplemented:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// From finds the Error in err, or makes one: gRPC and context errors keep their status, anything else is INTERNAL, whose
// cause is for the log and not for the caller.
func From(err error) *Error {
	return FromCall(err, nil)
}

// FromCall is From for the error of a gRPC call, whose trailer may name the code and when to try again.
func FromCall(err error, trailer metadata.MD) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if reported, ok := status.FromError(err); ok {
		return fromStatus(reported, trailer)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(DeadlineExceeded, "the deadline passed before the answer: %w", err)
	case errors.Is(err, context.Canceled):
		return New(Cancelled, "the caller went away before the answer: %w", err)
	}
	failure := New(Internal, "internal error; the gateway's log has the details under this trace id")
	failure.cause = err
	return failure
}

func fromStatus(reported *status.Status, trailer metadata.MD) *Error {
	definition, ok := byStatus[reported.Code()]
	if !ok {
		definition = byCode[Unknown]
	}
	failure := definition.failure(cmp.Or(reported.Message(), definition.Meaning))
	failure.cause, failure.reported = reported.Err(), reported
	if code := codeIn(trailer); code != "" {
		failure.Code = code
		if own, ok := byCode[code]; ok && own.GRPC == failure.GRPC {
			failure.HTTP, failure.RetryAfter = own.HTTP, own.RetryAfter
		}
	}
	if pushback := pushbackOf(reported, trailer); pushback > 0 {
		failure.RetryAfter = pushback
	}
	return failure
}

// codeIn is the code that a backend sent, kept even where this gateway is older than the code; "" if there is none.
func codeIn(trailer metadata.MD) string {
	for _, code := range trailer.Get(CodeTrailer) {
		if codeForm.MatchString(code) {
			return code
		}
	}
	return ""
}
