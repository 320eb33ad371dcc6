package batch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	worlds   = 60
	requests = 400
	// A row's number is its request's number times rowsPerRequest, plus its place.
	rowsPerRequest = 16
)

// world is a random course of events: requests of random size come in bursts and lulls, with random deadlines, some leave; members of random speed
// come and go, and fail.
type world struct {
	t      *testing.T
	random *rand.Rand
	limits batch.Limits
	f      fixture

	mu        sync.Mutex
	deadlines map[uint32]time.Time // by request
	ran       map[uint32]int       // successful executions of a request, in batches and alone
	underWay  map[string]int       // calls of batches, by member
}

func TestProperty_every_request_is_answered_once_with_its_own_rows_or_fails_for_a_reason(t *testing.T) {
	for seed := range uint64(worlds) {
		t.Run(fmt.Sprint("world ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run() })
		})
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 0)),
		deadlines: map[uint32]time.Time{}, ran: map[uint32]int{}, underWay: map[string]int{},
	}
	w.limits = batch.Limits{MaxSize: 2 + w.random.IntN(40), MaxDelay: time.Duration(w.random.IntN(3)) * time.Millisecond}
	w.f = start(t, w.limits, newMembers("a"), w.model(w.span(20*time.Millisecond), w.span(time.Millisecond), w.random.Float64()*0.1))
	return w
}

// span is a random time below most.
func (w *world) span(most time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(most)))
}

func (w *world) run() {
	ctx, stop := context.WithCancel(w.t.Context())
	var others, callers sync.WaitGroup
	seed := w.random.Uint64()
	others.Go(func() { w.churn(ctx, rand.New(rand.NewPCG(seed, 1))) })
	for number := range uint32(requests) {
		if w.random.IntN(4) == 0 {
			time.Sleep(w.span(20 * time.Millisecond))
		}
		values := make([]uint32, 1+w.random.IntN(min(rowsPerRequest, w.limits.MaxSize+2)))
		for index := range values {
			values[index] = number*rowsPerRequest + uint32(index)
		}
		timeout, leaveAfter := w.span(time.Second), time.Duration(-1)
		if w.random.IntN(8) == 0 {
			leaveAfter = w.span(50 * time.Millisecond)
		}
		callers.Go(func() { w.caller(number, timeout, leaveAfter, values) })
	}
	callers.Wait()
	stop()
	others.Wait()
	time.Sleep(time.Minute) // lingers end
	if c := w.f.counts; c.rows != 0 || c.bytes != 0 {
		w.t.Errorf("%d rows and %d bytes wait for ever", c.rows, c.bytes)
	}
}

// churn lets members come and go.
func (w *world) churn(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		address := string(rune('a' + random.IntN(4)))
		if random.IntN(2) == 0 {
			w.f.members.add(address)
		} else {
			w.f.members.remove(address)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(random.Int64N(int64(50 * time.Millisecond)))):
		}
	}
}

func (w *world) caller(number uint32, timeout, leaveAfter time.Duration, values []uint32) {
	ctx, cancel := context.WithTimeout(w.t.Context(), timeout)
	defer cancel()
	if leaveAfter >= 0 {
		time.AfterFunc(leaveAfter, cancel)
	}
	w.mu.Lock()
	w.deadlines[number], _ = ctx.Deadline()
	w.mu.Unlock()
	id := strconv.Itoa(int(number))
	response, err := w.f.client.ModelInfer(ctx, request(id, values...))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		if err := check(response, id, values...); err != nil {
			w.t.Error(err)
		}
		if w.ran[number] != 1 {
			w.t.Errorf("request %d was answered and executed %d times", number, w.ran[number])
		}
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
	case status.Code(err) == codes.Unavailable, status.Code(err) == codes.InvalidArgument: // as the model said
	default:
		if code := apierr.From(err).Code; code != apierr.ResourceExhausted && code != apierr.DeadlineExceeded {
			w.t.Errorf("request %d: %v", number, err)
		}
	}
}

// model takes base and perRow, and fails in that share of calls, or because of a request whose number ends in 13. It checks what arrives.
func (w *world) model(base, perRow time.Duration, failing float64) infer {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(w.random.Uint64(), 2))
	return func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
		values := valuesIn(request.GetRawInputContents()[0])
		w.arrived(preferred(ctx), request, values)
		defer w.left(preferred(ctx))
		mu.Lock()
		fails, noise := random.Float64() < failing, time.Duration(random.Int64N(int64(base/4+1)))
		mu.Unlock()
		select {
		case <-time.After(base + noise + time.Duration(len(values))*perRow):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if fails {
			return nil, status.Error(codes.Unavailable, "the member died")
		}
		for _, value := range values {
			if value/rowsPerRequest%100 == 13 {
				return nil, status.Error(codes.InvalidArgument, "not with 13")
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, value := range values {
			if value%rowsPerRequest == 0 {
				w.ran[value/rowsPerRequest]++
			}
		}
		return echo(request), nil
	}
}

func (w *world) arrived(member string, request *pb.ModelInferRequest, values []uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, value := range values {
		if deadline := w.deadlines[value/rowsPerRequest]; !time.Now().Before(deadline) {
			w.t.Errorf("request %d reached a member %v after its deadline", value/rowsPerRequest, time.Since(deadline))
		}
	}
	if request.GetId() == "" && (len(values) > w.limits.MaxSize || len(values) != rowsOf(request)) {
		w.t.Errorf("a batch has %d rows of data, says %d and may have %d", len(values), rowsOf(request), w.limits.MaxSize)
	}
	if w.underWay[member]++; member != "" && w.underWay[member] > 1 {
		w.t.Errorf("member %s has %d batches under way", member, w.underWay[member])
	}
}

func (w *world) left(member string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.underWay[member]--
}
