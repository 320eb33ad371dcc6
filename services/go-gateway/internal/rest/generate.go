package rest

import (
	"context"
	"math"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Streaming bounds the calls that a model answers with any number of responses.
type Streaming struct {
	FirstResponse    time.Duration // until the model's first response, where the caller names no deadline
	BetweenResponses time.Duration // from one response to the next
	Total            time.Duration // of a stream whose caller names no deadline
	WriteTimeout     time.Duration // for which a caller may take nothing
	Heartbeat        time.Duration // between the comments that are sent while the model is silent
	// Ending is closed when open streams must come to their end.
	Ending  <-chan struct{}
	Metrics StreamMetrics
}

// StreamMetrics counts streams.
type StreamMetrics interface {
	// Open changes the number of streams being sent.
	Open(delta int)
	// FirstResponse counts a model's first response, so many seconds after the call's arrival.
	FirstResponse(seconds float64)
	// Event counts what was sent: a response, an error or a heartbeat.
	Event(kind string)
}

// Kinds of events.
const (
	EventResponse  = "response"
	EventError     = "error"
	EventHeartbeat = "heartbeat"
)

// generate answers with the one response of a model, whose outputs are fields of a JSON object.
func (s *server) generate(w http.ResponseWriter, r *http.Request) error {
	var only *pb.ModelInferResponse
	err := s.generated(w, r, func(ctx context.Context, first *pb.ModelInferResponse, rest *responses) error {
		if first == nil {
			return apierr.New(apierr.InvalidRequest, "the model gave no response; call generate_stream for models that answer any number of times")
		}
		second, err := rest.next(ctx, func() error { return nil })
		if err == nil && second != nil {
			err = apierr.New(apierr.InvalidRequest, "the model gave more than one response; call generate_stream for models that answer any number of times")
		}
		only = first
		return err
	})
	if err != nil {
		return err
	}
	text, err := oip.AppendGenerateResponse(nil, only)
	if err != nil {
		return err
	}
	return answerAccepted(w, r, "application/json", text)
}

// generateStream answers with a server-sent event for each response of a model. What fails before the first one has its
// HTTP status, what fails later is an event with the body of an error, the last.
func (s *server) generateStream(w http.ResponseWriter, r *http.Request) error {
	return s.generated(w, r, func(ctx context.Context, first *pb.ModelInferResponse, rest *responses) error {
		s.Streaming.Metrics.Open(1)
		defer s.Streaming.Metrics.Open(-1)
		events := newEventWriter(w, s.Streaming.WriteTimeout)
		err := s.sendEvents(ctx, events, first, rest)
		if err == nil {
			return events.end()
		}
		if !events.begun {
			return err
		}
		failure := apierr.From(err)
		if failure.Code != apierr.Cancelled {
			s.Streaming.Metrics.Event(EventError)
			if events.event(failure.Body(apierr.TraceID(ctx))) == nil {
				_ = events.end() // the failure that counts is the stream's
			}
		}
		return failure
	})
}

func (s *server) sendEvents(ctx context.Context, events *eventWriter, one *pb.ModelInferResponse, rest *responses) error {
	var text []byte
	for one != nil {
		var err error
		if text, err = oip.AppendGenerateResponse(text[:0], one); err != nil {
			return err
		}
		if err = events.event(text); err != nil {
			return err
		}
		s.Streaming.Metrics.Event(EventResponse)
		one, err = rest.next(ctx, func() error {
			s.Streaming.Metrics.Event(EventHeartbeat)
			return events.ping()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// generated reads a generate request and has the model answer; use gets the first response, nil where there is none.
func (s *server) generated(w http.ResponseWriter, r *http.Request, use func(context.Context, *pb.ModelInferResponse, *responses) error) error {
	arrival := time.Now()
	name, version, err := modelOf(r)
	if err != nil {
		return err
	}
	limit, err := s.deadlineOf(r)
	if err != nil {
		return err
	}
	if limit.byDefault {
		limit.at = arrival.Add(s.Streaming.Total)
	}
	soon := limit // for what comes before the model: a stream may be long, these are not
	if ordinary := arrival.Add(s.DefaultTimeout); ordinary.Before(soon.at) {
		soon.at = ordinary
	}
	body, err := readBody(w, r, s.MaxRequestBytes, soon.at)
	if err != nil {
		return err
	}
	var (
		ctx    context.Context
		cancel context.CancelFunc = func() {}
		first  *pb.ModelInferResponse
		rest   *responses
	)
	defer func() { cancel() }() // frees the model where a response is left
	asking, asked := soon.context(r)
	defer asked()
	err = s.described(asking, name, version, func(known model) error {
		cancel()
		request, err := oip.DecodeGenerateRequest(body, known.metadata, name, version)
		if err != nil {
			return err
		}
		if size := int64(proto.Size(request)); size > s.MaxRequestBytes {
			return tooLarge(size, s.MaxRequestBytes)
		}
		own, err := limit.with(request, arrival)
		if err != nil {
			return err
		}
		ctx, cancel = own.context(r)
		rest = s.respond(ctx, request, known.decoupled)
		if !own.byDefault {
			rest.timeouts.FirstResponse = math.MaxInt64 // the caller has said how long it waits
		}
		first, err = rest.next(ctx, func() error { return nil })
		return err
	})
	if err != nil {
		return err
	}
	trace.SpanFromContext(ctx).AddEvent("first response")
	s.Streaming.Metrics.FirstResponse(time.Since(arrival).Seconds())
	return use(ctx, first, rest)
}
