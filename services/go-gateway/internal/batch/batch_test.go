package batch_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/batch"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

var roomy = batch.Limits{MaxSize: 32}

func TestIdle_member_gets_a_request_at_once_and_unchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen *pb.ModelInferRequest
		f := start(t, roomy, newMembers("a"), func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			seen = request
			return echo(request), nil
		})
		sent := request("7", 1)
		if got := <-f.call(t.Context(), 0, sent); got.err != nil || got.after != 0 {
			t.Errorf("answered after %v with %v", got.after, got.err)
		}
		if seen != sent {
			t.Error("a request that is alone was made anew")
		}
	})
}

func TestBusy_members_make_the_queue_the_next_batch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(10*time.Millisecond, 0))
		for index, got := range f.all(t, 0, 1, 2, 3, 4) {
			if got.err != nil {
				t.Fatal(got.err)
			}
			if err := check(got.response, strconv.Itoa(index), uint32(index)); index > 0 && err != nil {
				t.Error(err)
			}
			want := 20 * time.Millisecond
			if index == 0 {
				want = 10 * time.Millisecond
			}
			if got.after != want {
				t.Errorf("request %d was answered after %v, want %v", index, got.after, want)
			}
		}
		if want := []int{1, 4}; !slices.Equal(f.counts.sizes, want) {
			t.Errorf("batches of %v, want %v", f.counts.sizes, want)
		}
		if f.counts.sent[batch.SentIdle] != 2 {
			t.Errorf("sent %v", f.counts.sent)
		}
	})
}

func TestBatch_is_cut_at_the_largest_size(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, batch.Limits{MaxSize: 3}, newMembers("a"), taking(10*time.Millisecond, 0))
		f.all(t, 0, 1, 2, 3, 4, 5, 6, 7)
		if want := []int{1, 3, 3, 1}; !slices.Equal(f.counts.sizes, want) || f.counts.sent[batch.SentFull] != 2 {
			t.Errorf("batches of %v, want %v; sent %v", f.counts.sizes, want, f.counts.sent)
		}
	})
}

func TestMembers_each_have_one_batch_under_way(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a", "b"), taking(10*time.Millisecond, 0))
		f.all(t, 0, 1, 2, 3, 4)
		if want := []int{1, 1, 3}; !slices.Equal(f.counts.sizes, want) {
			t.Errorf("batches of %v, want %v", f.counts.sizes, want)
		}
	})
}

func TestMember_that_comes_takes_what_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(time.Second, 0))
		first := f.call(t.Context(), 0, request("0", 0))
		second := f.call(t.Context(), 0, request("1", 1))
		time.Sleep(100 * time.Millisecond)
		f.members.add("b")
		if got := <-second; got.after != 1100*time.Millisecond {
			t.Errorf("the waiting request was answered after %v", got.after)
		}
		<-first
	})
}

func TestLinger_waits_for_the_callers_of_the_last_batch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(10*time.Millisecond, 0))
		f.all(t, 0, 1, 2, 3, 4) // 1, then 4
		f.counts.sizes = nil
		begin := time.Now()
		var pending []<-chan outcome
		for index := range 4 {
			time.Sleep(400 * time.Microsecond)
			pending = append(pending, f.call(t.Context(), 0, request(strconv.Itoa(index), 1)))
		}
		for _, answered := range pending {
			<-answered
		}
		if want := []int{4}; !slices.Equal(f.counts.sizes, want) || f.counts.sent[batch.SentLinger] != 1 {
			t.Errorf("batches of %v, want %v; sent %v", f.counts.sizes, want, f.counts.sent)
		}
		if took := time.Since(begin); took != 4*400*time.Microsecond+10*time.Millisecond {
			t.Errorf("took %v: it went on waiting when all were there", took)
		}
	})
}

func TestLinger_joins_callers_that_would_take_turns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(10*time.Millisecond, 0))
		var callers sync.WaitGroup
		for index := range 4 {
			callers.Go(func() {
				for range 5 {
					if _, err := f.client.ModelInfer(t.Context(), request("", uint32(index))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if want := []int{1, 3, 4, 4, 4, 4}; !slices.Equal(f.counts.sizes, want) {
			t.Errorf("batches of %v, want %v", f.counts.sizes, want)
		}
	})
}

func TestLinger_ends_after_a_fifth_of_a_batchs_time_or_the_delay_that_is_set(t *testing.T) {
	cases := map[string]struct{ takes, delay, want time.Duration }{
		"no delay set":                    {10 * time.Millisecond, 0, 2 * time.Millisecond},
		"a shorter delay":                 {10 * time.Millisecond, time.Millisecond, time.Millisecond},
		"a longer delay":                  {10 * time.Millisecond, time.Second, 2 * time.Millisecond},
		"a quick model":                   {200 * time.Microsecond, 0, 400 * time.Microsecond},
		"a model that is not quite so":    {time.Millisecond, 0, time.Millisecond},
		"a quick model and a short delay": {200 * time.Microsecond, 100 * time.Microsecond, 100 * time.Microsecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, batch.Limits{MaxSize: 32, MaxDelay: c.delay}, newMembers("a"), taking(c.takes, 0))
				f.all(t, 0, 1, 2, 3, 4)
				if got := <-f.call(t.Context(), 0, request("5", 5)); got.after != c.want+c.takes {
					t.Errorf("answered after %v, want %v of waiting", got.after, c.want)
				}
			})
		})
	}
}

func TestLinger_is_not_for_a_caller_that_is_alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(10*time.Millisecond, 0))
		for range 3 {
			if got := <-f.call(t.Context(), 0, request("0", 1, 2, 3)); got.after != 10*time.Millisecond {
				t.Errorf("answered after %v", got.after)
			}
		}
	})
}

func TestDeadlines_bound_the_batch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(0, 10*time.Millisecond))
		for _, rows := range [][]uint32{{1}, {1, 2}, {1, 2, 3}} { // the batcher learns: 10 ms a row
			<-f.call(t.Context(), 0, request("", rows...))
		}
		f.counts.sizes = nil
		pending := []<-chan outcome{f.call(t.Context(), 0, request("0", 0)), f.call(t.Context(), 35*time.Millisecond, request("hurried", 1))}
		for range 4 {
			pending = append(pending, f.call(t.Context(), 0, request("", 1)))
		}
		for _, answered := range pending {
			if got := <-answered; got.err != nil {
				t.Errorf("failed after %v: %v", got.after, got.err)
			}
		}
		if want := []int{1, 2, 3}; !slices.Equal(f.counts.sizes, want) || f.counts.sent[batch.SentDeadline] != 1 {
			t.Errorf("batches of %v, want %v: a third row would have made the second request late; sent %v", f.counts.sizes, want, f.counts.sent)
		}
	})
}

func TestExpired_request_never_reaches_a_member(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		slow := taking(time.Second, 0)
		f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			calls++
			return slow(ctx, request)
		})
		first := f.call(t.Context(), 0, request("0", 0))
		got := <-f.call(t.Context(), 100*time.Millisecond, request("1", 1))
		if apierr.From(got.err).Code != apierr.DeadlineExceeded || got.after != 100*time.Millisecond {
			t.Errorf("after %v: %v", got.after, got.err)
		}
		<-first
		if calls != 1 || f.counts.dropped[batch.DroppedExpired] != 1 || f.counts.rows != 0 || f.counts.bytes != 0 {
			t.Errorf("%d calls; dropped %v; %d rows and %d bytes wait", calls, f.counts.dropped, f.counts.rows, f.counts.bytes)
		}
	})
}

func TestOverload_is_refused_with_the_time_to_come_back(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, batch.Limits{MaxSize: 2}, newMembers("a"), taking(time.Second, 0))
		f.all(t, 0, 1, 2)
		time.Sleep(time.Second) // the linger
		first := f.call(t.Context(), 0, request("0", 0))
		for index := range 8 {
			f.call(t.Context(), 0, request(strconv.Itoa(index), 1))
		}
		got := <-f.call(t.Context(), 3*time.Second, request("late", 1))
		refusal := apierr.From(got.err)
		if refusal.Code != apierr.ResourceExhausted || got.after != 0 || !strings.Contains(refusal.Message, `8 rows wait for model "m"`) {
			t.Errorf("after %v: %v", got.after, got.err)
		}
		if refusal.RetryAfter < 5*time.Second || f.counts.dropped[batch.DroppedOverload] != 1 {
			t.Errorf("retry after %v; dropped %v", refusal.RetryAfter, f.counts.dropped)
		}
		if got := <-f.call(t.Context(), time.Minute, request("patient", 1)); got.err != nil {
			t.Errorf("a caller with time was refused: %v", got.err)
		}
		<-first
	})
}

func TestEstimate_that_is_old_refuses_nobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := time.Minute
		f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			return taking(pause, 0)(ctx, request)
		})
		<-f.call(t.Context(), 0, request("slow", 0))
		pause = time.Millisecond
		if got := <-f.call(t.Context(), time.Second, request("0", 0)); apierr.From(got.err).Code != apierr.DeadlineExceeded || got.after != 0 {
			t.Errorf("after %v: %v", got.after, got.err)
		}
		time.Sleep(5 * time.Minute)
		if got := <-f.call(t.Context(), time.Second, request("0", 0)); got.err != nil {
			t.Errorf("a model that was slow once is not asked again: %v", got.err)
		}
	})
}

func TestFull_queue_refuses_by_bytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, batch.Limits{MaxSize: 1024}, newMembers("a"), taking(time.Second, 0))
		first := f.call(t.Context(), 0, request("0", 0))
		wide := request("", make([]uint32, 1000)...)
		wide.Inputs[0].Shape = []int64{1, 1000}
		for range 245 { // 4000 bytes each, of 1 MiB less the headroom
			f.call(t.Context(), 0, wide)
		}
		got := <-f.call(t.Context(), 0, wide)
		if apierr.From(got.err).Code != apierr.ResourceExhausted || f.counts.dropped[batch.DroppedFull] != 1 {
			t.Errorf("got %v; dropped %v", got.err, f.counts.dropped)
		}
		<-first
		time.Sleep(5 * time.Minute) // all are answered
		if f.counts.rows != 0 || f.counts.bytes != 0 {
			t.Errorf("%d rows and %d bytes still wait", f.counts.rows, f.counts.bytes)
		}
	})
}

func TestCancel_takes_a_request_out_of_the_queue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), taking(time.Second, 0))
		first := f.call(t.Context(), 0, request("0", 0))
		ctx, cancel := context.WithCancel(t.Context())
		second := f.call(ctx, 0, request("1", 1))
		third := f.call(t.Context(), 0, request("2", 2))
		cancel()
		if got := <-second; apierr.From(got.err).Code != apierr.Cancelled || got.after != 0 {
			t.Errorf("after %v: %v", got.after, got.err)
		}
		<-first
		<-third
		if want := []int{1, 1}; !slices.Equal(f.counts.sizes, want) || f.counts.dropped[batch.DroppedCancelled] != 1 {
			t.Errorf("batches of %v, want %v; dropped %v", f.counts.sizes, want, f.counts.dropped)
		}
	})
}

func TestCancel_of_all_in_a_batch_ends_its_call_and_of_some_does_not(t *testing.T) {
	for _, leaving := range []int{1, 2} {
		t.Run(fmt.Sprint(leaving, " of 2"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended error
				f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
					response, err := taking(time.Second, 0)(ctx, request)
					if rowsOf(request) == 2 {
						ended = err
					}
					return response, err
				})
				first := f.call(t.Context(), 0, request("0", 0))
				ctx, cancel := context.WithCancel(t.Context())
				var pending []<-chan outcome
				for index := range 2 {
					caller := t.Context()
					if index < leaving {
						caller = ctx
					}
					pending = append(pending, f.call(caller, 0, request(strconv.Itoa(index), uint32(index))))
				}
				<-first
				synctest.Wait()
				cancel()
				for index, answered := range pending {
					got := <-answered
					if left := index < leaving; left != (apierr.From(got.err) != nil) {
						t.Errorf("caller %d got %v", index, got.err)
					}
				}
				synctest.Wait()
				if cancelled := leaving == 2; cancelled != (ended != nil) {
					t.Errorf("the batch's call ended with %v", ended)
				}
			})
		})
	}
}

func TestFailure_of_one_does_not_fail_the_others(t *testing.T) {
	for name, failure := range map[string]error{
		"a wrong value":       status.Error(codes.InvalidArgument, "13 is not allowed"),
		"the model's own":     apierr.New(apierr.ModelFailed, "13 is not allowed"),
		"a backend's failure": status.Error(codes.Unavailable, "gone"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
					response, err := taking(time.Second, 0)(ctx, request)
					if slices.Contains(valuesIn(request.GetRawInputContents()[0]), 13) {
						return nil, failure
					}
					return response, err
				})
				for index, got := range f.all(t, 0, 11, 12, 13) {
					shared := status.Code(failure) == codes.Unavailable
					wantFailure := index == 3 || shared && index > 0
					if wantFailure != (got.err != nil) {
						t.Errorf("request %d: %v", index, got.err)
					}
				}
			})
		})
	}
}

func TestAnswer_with_other_rows_fails_all(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy, newMembers("a"), func(_ context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			time.Sleep(time.Second)
			response := echo(request)
			if rowsOf(request) > 1 {
				response.Outputs[0].Shape = []int64{1, 1}
				response.RawOutputContents = [][]byte{response.GetRawOutputContents()[0][:4]}
			}
			return response, nil
		})
		for index, got := range f.all(t, 0, 1, 2)[1:] {
			if failure := apierr.From(got.err); failure == nil || failure.Code != apierr.Internal || !strings.Contains(failure.Message, `output "x": shape [1,1] has not the 2 rows`) {
				t.Errorf("request %d: %v", index, got.err)
			}
		}
	})
}

func TestMetadata_of_a_batch_is_what_all_callers_sent_alike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen metadata.MD
		f := start(t, roomy, newMembers("a"), func(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
			seen, _ = metadata.FromOutgoingContext(ctx)
			return taking(time.Second, 0)(ctx, request)
		})
		var pending []<-chan outcome
		for index := range 4 {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-access", "sesame", "x-request-id", strconv.Itoa(index))
			pending = append(pending, f.call(ctx, 0, request("", 1)))
		}
		for _, answered := range pending {
			<-answered
		}
		if want := (metadata.MD{"x-access": {"sesame"}}); !reflect.DeepEqual(seen, want) {
			t.Errorf("the batch had %v, want %v", seen, want)
		}
	})
}
