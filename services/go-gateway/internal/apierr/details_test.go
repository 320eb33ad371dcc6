package apierr

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

func withDetails(t *testing.T, code codes.Code, details ...protoadapt.MessageV1) error {
	t.Helper()
	detailed, err := status.New(code, "why").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return detailed.Err()
}

func TestRetryAfterIsTheBackendsWhereItSaysOne(t *testing.T) {
	in3s := &errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}
	for name, test := range map[string]struct {
		err     error
		trailer metadata.MD
		want    string
	}{
		"the table's":                     {status.Error(codes.Unavailable, ""), nil, "1"},
		"the table's for the code":        {status.Error(codes.Unavailable, ""), metadata.Pairs(CodeTrailer, ModelNotReady), "5"},
		"gRPC's pushback, rounded up":     {status.Error(codes.ResourceExhausted, ""), metadata.Pairs(pushbackTrailer, "1500"), "2"},
		"a pushback that means never":     {status.Error(codes.ResourceExhausted, ""), metadata.Pairs(pushbackTrailer, "-1"), "1"},
		"HTTP's seconds":                  {status.Error(codes.Unavailable, ""), metadata.Pairs(retryAfterTrailer, "30"), "30"},
		"a trailer that is no number":     {status.Error(codes.Unavailable, ""), metadata.Pairs(retryAfterTrailer, "soon"), "1"},
		"the status's details":            {withDetails(t, codes.Unavailable, in3s), metadata.Pairs(retryAfterTrailer, "30"), "3"},
		"of a code newer than this":       {status.Error(codes.Unavailable, ""), metadata.Pairs(CodeTrailer, "TENANT_PAUSED"), "1"},
		"none, where it would not help":   {status.Error(codes.InvalidArgument, ""), nil, ""},
		"none, for what is too large":     {status.Error(codes.ResourceExhausted, ""), metadata.Pairs(CodeTrailer, MessageTooLarge), ""},
		"any status's, if a backend says": {status.Error(codes.Aborted, ""), metadata.Pairs(retryAfterTrailer, "7"), "7"},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			Write(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), FromCall(test.err, test.trailer))
			if got := recorder.Header().Get("Retry-After"); got != test.want {
				t.Errorf("Retry-After is %q, want %q", got, test.want)
			}
		})
	}
}

func TestStatusTellsTheCodeTheTraceAndWhenToTryAgain(t *testing.T) {
	for name, test := range map[string]struct {
		failure *Error
		trace   string
		reason  string
		retry   time.Duration
	}{
		"an error of ours":             {New(InvalidTensor, "text"), "abc", InvalidTensor, 0},
		"outside a trace":              {New(InvalidTensor, "text"), "", InvalidTensor, 0},
		"one that may be tried again":  {New(ModelNotReady, "text"), "abc", ModelNotReady, 5 * time.Second},
		"one that wraps another error": {New(Unavailable, "text: %w", New(InvalidTensor, "inner")), "abc", Unavailable, time.Second},
		"one that wraps a plain error": {New(Internal, "text: %w", errors.New("disk full")), "abc", Internal, 0},
		"a backend's":                  {FromCall(status.Error(codes.NotFound, "gone"), nil), "abc", NotFound, 0},
		"a backend's, with retry info": {FromCall(withDetails(t, codes.Unavailable, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)}), nil), "abc", Unavailable, time.Minute},
		"a backend's, with its own": {
			FromCall(withDetails(t, codes.Internal, &errdetails.ErrorInfo{Reason: ModelFailed, Domain: Domain, Metadata: map[string]string{"traceId": "abc"}}), metadata.Pairs(CodeTrailer, ModelFailed)),
			"abc", ModelFailed, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var informed, timed int
			for _, detail := range test.failure.Status(test.trace).Details() {
				switch known := detail.(type) {
				case *errdetails.ErrorInfo:
					informed++
					if known.GetReason() != test.reason || known.GetDomain() != Domain || known.GetMetadata()["traceId"] != test.trace {
						t.Errorf("got %v", known)
					}
				case *errdetails.RetryInfo:
					timed++
					if got := known.GetRetryDelay().AsDuration(); got != test.retry {
						t.Errorf("to try again after %v, want %v", got, test.retry)
					}
				}
			}
			if informed != 1 || (timed == 1) != (test.retry > 0) {
				t.Errorf("got %d ErrorInfo and %d RetryInfo", informed, timed)
			}
		})
	}
}
