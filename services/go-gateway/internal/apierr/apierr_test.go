package apierr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestTableOfCodesIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, definition := range Definitions {
		if seen[definition.Code] {
			t.Errorf("%s stands twice in the table", definition.Code)
		}
		seen[definition.Code] = true
		if !codeForm.MatchString(definition.Code) || definition.Meaning == "" {
			t.Errorf("%s: a code must be upper case and have a meaning, has %q", definition.Code, definition.Meaning)
		}
		if definition.HTTP < 400 || definition.HTTP > 599 || definition.GRPC == codes.OK {
			t.Errorf("%s is no failure: HTTP %d, gRPC %v", definition.Code, definition.HTTP, definition.GRPC)
		}
	}
	for _, definition := range Definitions {
		later := definition.HTTP == http.StatusTooManyRequests || definition.HTTP == http.StatusServiceUnavailable
		if later != (definition.RetryAfter > 0) {
			t.Errorf("%s: HTTP %d with RetryAfter %v; 429 and 503 have one, and no other", definition.Code, definition.HTTP, definition.RetryAfter)
		}
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if _, ok := byStatus[code]; !ok {
			t.Errorf("gRPC status %v has no code", code)
		}
	}
}

func TestCallsFailWithTheStatusAndTheCodeOfTheBackend(t *testing.T) {
	for name, test := range map[string]struct {
		status  codes.Code
		trailer string
		want    Error
	}{
		"invalid argument":                       {codes.InvalidArgument, "", Error{Code: "INVALID_ARGUMENT", HTTP: 400, GRPC: codes.InvalidArgument}},
		"invalid tensor":                         {codes.InvalidArgument, "INVALID_TENSOR", Error{Code: "INVALID_TENSOR", HTTP: 400, GRPC: codes.InvalidArgument}},
		"invalid request":                        {codes.InvalidArgument, "INVALID_REQUEST", Error{Code: "INVALID_REQUEST", HTTP: 400, GRPC: codes.InvalidArgument}},
		"not found":                              {codes.NotFound, "", Error{Code: "NOT_FOUND", HTTP: 404, GRPC: codes.NotFound}},
		"model not found":                        {codes.NotFound, "MODEL_NOT_FOUND", Error{Code: "MODEL_NOT_FOUND", HTTP: 404, GRPC: codes.NotFound}},
		"unavailable":                            {codes.Unavailable, "", Error{Code: "UNAVAILABLE", HTTP: 503, GRPC: codes.Unavailable}},
		"model not ready":                        {codes.Unavailable, "MODEL_NOT_READY", Error{Code: "MODEL_NOT_READY", HTTP: 503, GRPC: codes.Unavailable}},
		"server draining":                        {codes.Unavailable, "SERVER_DRAINING", Error{Code: "SERVER_DRAINING", HTTP: 503, GRPC: codes.Unavailable}},
		"unimplemented":                          {codes.Unimplemented, "", Error{Code: "UNIMPLEMENTED", HTTP: 501, GRPC: codes.Unimplemented}},
		"unsupported":                            {codes.Unimplemented, "UNSUPPORTED", Error{Code: "UNSUPPORTED", HTTP: 501, GRPC: codes.Unimplemented}},
		"resource exhausted":                     {codes.ResourceExhausted, "", Error{Code: "RESOURCE_EXHAUSTED", HTTP: 429, GRPC: codes.ResourceExhausted}},
		"message too large":                      {codes.ResourceExhausted, "MESSAGE_TOO_LARGE", Error{Code: "MESSAGE_TOO_LARGE", HTTP: 413, GRPC: codes.ResourceExhausted}},
		"deadline exceeded":                      {codes.DeadlineExceeded, "DEADLINE_EXCEEDED", Error{Code: "DEADLINE_EXCEEDED", HTTP: 504, GRPC: codes.DeadlineExceeded}},
		"cancelled":                              {codes.Canceled, "", Error{Code: "CANCELLED", HTTP: 499, GRPC: codes.Canceled}},
		"permission denied":                      {codes.PermissionDenied, "", Error{Code: "PERMISSION_DENIED", HTTP: 403, GRPC: codes.PermissionDenied}},
		"unauthenticated":                        {codes.Unauthenticated, "", Error{Code: "UNAUTHENTICATED", HTTP: 401, GRPC: codes.Unauthenticated}},
		"internal":                               {codes.Internal, "INTERNAL", Error{Code: "INTERNAL", HTTP: 500, GRPC: codes.Internal}},
		"model failed":                           {codes.Internal, "MODEL_FAILED", Error{Code: "MODEL_FAILED", HTTP: 500, GRPC: codes.Internal}},
		"unknown":                                {codes.Unknown, "", Error{Code: "UNKNOWN", HTTP: 500, GRPC: codes.Unknown}},
		"a status that is none":                  {codes.Code(99), "", Error{Code: "UNKNOWN", HTTP: 500, GRPC: codes.Unknown}},
		"a code newer than the gateway":          {codes.NotFound, "TENANT_NOT_FOUND", Error{Code: "TENANT_NOT_FOUND", HTTP: 404, GRPC: codes.NotFound}},
		"a code that disagrees with the status":  {codes.Internal, "MODEL_NOT_FOUND", Error{Code: "MODEL_NOT_FOUND", HTTP: 500, GRPC: codes.Internal}},
		"a code that would not do in a log line": {codes.Internal, "no\ncode", Error{Code: "INTERNAL", HTTP: 500, GRPC: codes.Internal}},
	} {
		t.Run(name, func(t *testing.T) {
			trailer := metadata.MD{}
			if test.trailer != "" {
				trailer.Set(CodeTrailer, test.trailer)
			}
			got := FromCall(status.Error(test.status, "why"), trailer)
			if got.Code != test.want.Code || got.HTTP != test.want.HTTP || got.GRPC != test.want.GRPC || got.Message != "why" {
				t.Errorf("got %+v, want %+v with the message %q", got, test.want, "why")
			}
			if answered := got.GRPCStatus(); answered.Code() != test.want.GRPC || answered.Message() != "why" {
				t.Errorf("as gRPC status %v, want %v with the same message", answered, test.want.GRPC)
			}
		})
	}
}

func TestEveryErrorBecomesOneOfTheTable(t *testing.T) {
	for name, test := range map[string]struct {
		err           error
		code, message string
	}{
		"an error of ours, wrapped":   {fmt.Errorf("while serving: %w", New(InvalidTensor, "input %q", "x")), InvalidTensor, `input "x"`},
		"the deadline":                {fmt.Errorf("read: %w", context.DeadlineExceeded), DeadlineExceeded, "the deadline passed before the answer: read: context deadline exceeded"},
		"the caller hanging up":       {context.Canceled, Cancelled, "the caller went away before the answer: context canceled"},
		"a status without a text":     {status.Error(codes.Unavailable, ""), Unavailable, "no backend could be reached"},
		"anything else, not told":     {errors.New("password is hunter2"), Internal, "internal error; the gateway's log has the details under this trace id"},
		"a code that is not of ours":  {New("NONSENSE", "text"), Internal, "text"},
		"a status inside another one": {fmt.Errorf("call: %w", status.Error(codes.NotFound, "gone")), NotFound, "call: rpc error: code = NotFound desc = gone"},
	} {
		t.Run(name, func(t *testing.T) {
			got := From(test.err)
			if got.Code != test.code || got.Error() != test.message {
				t.Errorf("got %s %q, want %s %q", got.Code, got.Error(), test.code, test.message)
			}
		})
	}
	if got := From(nil); got != nil {
		t.Errorf("no error became %v", got)
	}
}

func TestErrorsKeepTheirCauseForTheLog(t *testing.T) {
	cause := errors.New("disk full")
	for name, err := range map[string]error{"wrapped by New": New(Unavailable, "no backend: %w", cause), "hidden by From": From(cause)} {
		if !errors.Is(err, cause) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
}

func TestWriteAnswersStatusAndBody(t *testing.T) {
	traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}}))
	for name, test := range map[string]struct {
		ctx  context.Context
		want map[string]string
	}{
		"outside a trace": {t.Context(), map[string]string{"error": `no "x" <here>`, "code": "MODEL_NOT_FOUND", "traceId": ""}},
		"within a trace":  {traced, map[string]string{"error": `no "x" <here>`, "code": "MODEL_NOT_FOUND", "traceId": "01020000000000000000000000000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			request := httptest.NewRequestWithContext(test.ctx, http.MethodGet, "/", nil)
			Write(recorder, request, New(ModelNotFound, "no %q <here>", "x"))
			var got map[string]string
			if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if recorder.Code != http.StatusNotFound || recorder.Header().Get("Content-Type") != "application/json" || fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %d %v %v, want 404 with %v", recorder.Code, recorder.Header(), got, test.want)
			}
		})
	}
}

func TestLogLevelTellsWhoseFaultItIs(t *testing.T) {
	for code, want := range map[string]slog.Level{
		InvalidTensor:    slog.LevelInfo,
		Cancelled:        slog.LevelInfo,
		Unsupported:      slog.LevelInfo,
		Unavailable:      slog.LevelWarn,
		DeadlineExceeded: slog.LevelWarn,
		Internal:         slog.LevelError,
	} {
		if got := New(code, "").LogLevel(); got != want {
			t.Errorf("%s is logged as %v, want %v", code, got, want)
		}
	}
}
