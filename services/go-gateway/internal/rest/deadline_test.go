package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

func TestBackendGetsTheDeadlineOfTheCaller(t *testing.T) {
	for name, test := range map[string]struct {
		headers    []string
		parameters string
		want       time.Duration
	}{
		"the default where there is none":      {nil, ``, time.Minute},
		"the header in seconds":                {[]string{"X-Request-Timeout: 30"}, ``, 30 * time.Second},
		"the header in parts of seconds":       {[]string{"X-Request-Timeout: 20.5"}, ``, 20500 * time.Millisecond},
		"the header as a duration":             {[]string{"X-Request-Timeout: 1h10m"}, ``, 70 * time.Minute},
		"the parameter in microseconds":        {nil, `"parameters":{"timeout":20000000},`, 20 * time.Second},
		"a parameter beyond the default":       {nil, `"parameters":{"timeout":7200000000},`, 2 * time.Hour},
		"the header where it is earlier":       {[]string{"X-Request-Timeout: 10"}, `"parameters":{"timeout":20000000},`, 10 * time.Second},
		"the parameter where it is earlier":    {[]string{"X-Request-Timeout: 40"}, `"parameters":{"timeout":20000000},`, 20 * time.Second},
		"the default where the parameter is 0": {nil, `"parameters":{"timeout":0},`, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			left := make(chan time.Duration, 1)
			g := newGateway(t, &pod{infer: func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				deadline, _ := ctx.Deadline()
				left <- time.Until(deadline)
				return &pb.ModelInferResponse{}, nil
			}}, nil)
			got := g.call(t, "POST", inferPath, "{"+test.parameters+strings.TrimPrefix(inferBody, "{"), test.headers...)
			if got.status != http.StatusOK {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			const slack = 8 * time.Second // of a machine that is busy
			if got := <-left; got > test.want || got < test.want-slack {
				t.Errorf("the backend has %v left, want %v", got, test.want)
			}
		})
	}
}

func TestLateAnswerIsADeadlineExceeded(t *testing.T) {
	for name, test := range map[string]struct {
		headers    []string
		parameters string
	}{
		"by header":    {[]string{"X-Request-Timeout: 0.05"}, ""},
		"by parameter": {nil, `"parameters":{"timeout":50000},`},
		"by default":   {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, &pod{infer: func(ctx context.Context, _ *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}, func(options *Options) { options.DefaultTimeout = 50 * time.Millisecond })
			got := g.call(t, "POST", inferPath, "{"+test.parameters+strings.TrimPrefix(inferBody, "{"), test.headers...)
			if code, message, _ := got.failure(t); got.status != http.StatusGatewayTimeout || code != "DEADLINE_EXCEEDED" {
				t.Errorf("got %d %s %q", got.status, code, message)
			}
		})
	}
}

func TestTimeoutsThatAreNoneAreRefused(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for _, text := range []string{"soon", "0", "-1", "-1s", "NaN", "Inf", "1e300", "9999999999999999h", "5 s"} {
		for _, path := range []string{"/v2", "/v2/models/digits", "/v2/models/digits/ready", inferPath} {
			method := http.MethodGet
			if path == inferPath {
				method = http.MethodPost
			}
			got := g.call(t, method, path, inferBody, "X-Request-Timeout: "+text)
			code, message, _ := got.failure(t)
			if got.status != http.StatusBadRequest || code != "INVALID_REQUEST" || message != `header X-Request-Timeout is "`+text+`": must be a positive number of seconds such as "2.5" or a duration such as "2500ms"` {
				t.Errorf("%s: got %d %s %q", path, got.status, code, message)
			}
		}
	}
	for _, value := range []string{"-1", "1.5", `"1s"`, "9223372036854775807", "18446744073709551615"} {
		got := g.call(t, "POST", inferPath, `{"parameters":{"timeout":`+value+`},`+strings.TrimPrefix(inferBody, "{"))
		code, message, _ := got.failure(t)
		if got.status != http.StatusBadRequest || code != "INVALID_REQUEST" || message != "parameters.timeout must be an integer number of microseconds of at least 0" {
			t.Errorf("%s: got %d %s %q", value, got.status, code, message)
		}
	}
}
