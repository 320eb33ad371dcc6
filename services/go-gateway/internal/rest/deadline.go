package rest

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	timeoutHeader = "X-Request-Timeout"
	// timeoutParameter is Triton's, in microseconds; 0 means none.
	timeoutParameter = "timeout"
)

// deadline is until when a caller waits.
type deadline struct {
	at time.Time
	// byDefault tells that the caller has not said so itself.
	byDefault bool
}

// deadlineOf is the deadline of a call that arrives now: its header's, else the default.
func (s *server) deadlineOf(r *http.Request) (deadline, error) {
	text := r.Header.Get(timeoutHeader)
	if text == "" {
		return deadline{at: time.Now().Add(s.DefaultTimeout), byDefault: true}, nil
	}
	timeout, ok := parseTimeout(text)
	if !ok {
		return deadline{}, apierr.New(apierr.InvalidRequest, `header %s is %q: must be a positive number of seconds such as "2.5" or a duration such as "2500ms"`, timeoutHeader, text)
	}
	return deadline{at: time.Now().Add(timeout)}, nil
}

func parseTimeout(text string) (time.Duration, bool) {
	timeout, err := time.ParseDuration(text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		if inRange := seconds > 0 && seconds < math.MaxInt64/float64(time.Second); err != nil || !inRange {
			return 0, false
		}
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return timeout, timeout > 0
}

// with takes the request's own timeout, which counts from arrival, into account: the earlier of the two that the caller
// has said, the default only where it has said neither.
func (d deadline) with(request *pb.ModelInferRequest, arrival time.Time) (deadline, error) {
	parameter, ok := request.GetParameters()[timeoutParameter]
	if !ok {
		return d, nil
	}
	choice, ok := parameter.GetParameterChoice().(*pb.InferParameter_Int64Param)
	if !ok || choice.Int64Param < 0 || choice.Int64Param > math.MaxInt64/int64(time.Microsecond) {
		return d, apierr.New(apierr.InvalidRequest, "parameters.%s must be an integer number of microseconds of at least 0", timeoutParameter)
	}
	if choice.Int64Param == 0 {
		return d, nil
	}
	own := arrival.Add(time.Duration(choice.Int64Param) * time.Microsecond)
	if d.byDefault || own.Before(d.at) {
		return deadline{at: own}, nil
	}
	return d, nil
}

func (d deadline) context(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithDeadline(r.Context(), d.at)
}
