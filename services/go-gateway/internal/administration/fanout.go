package administration

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
)

// rpc is a method of the client.
type rpc[Request, Response any] func(context.Context, *Request, ...grpc.CallOption) (*Response, error)

// answer is what one pod said.
type answer[Response any] struct {
	pod      string
	response *Response
	err      error
}

// ask calls the pods at once and returns their answers in the order of the addresses. Where there are none, the call goes
// out as any other does, and fails as any other does.
func ask[Request, Response any](ctx context.Context, addresses []string, method rpc[Request, Response], request *Request) []answer[Response] {
	if len(addresses) == 0 {
		response, err := backend.Call(ctx, method, request)
		return []answer[Response]{{response: response, err: err}}
	}
	answers := make([]answer[Response], len(addresses))
	var asking sync.WaitGroup
	for index, address := range addresses {
		asking.Go(func() {
			response, err := backend.Call(backend.Pin(ctx, address), method, request)
			answers[index] = answer[Response]{address, response, err}
		})
	}
	asking.Wait()
	return answers
}

// first asks the connected pod whose address comes first, so that who reads twice reads the same pod.
func first[Request, Response any](ctx context.Context, s *Service, method rpc[Request, Response], request *Request) (*Response, error) {
	members := s.Pods.Members()
	answer := ask(ctx, members[:min(len(members), 1)], method, request)[0]
	return answer.response, answer.err
}

// gather asks the connected pods; all must answer.
func gather[Request, Response any](ctx context.Context, s *Service, method rpc[Request, Response], request *Request) ([]answer[Response], error) {
	answers := ask(ctx, s.Pods.Members(), method, request)
	return answers, joined(answers)
}

// everywhere asks all pods to change, and returns the first answer where all did.
func everywhere[Request, Response any](ctx context.Context, s *Service, method rpc[Request, Response], request *Request) (*Response, error) {
	answers := ask(ctx, s.known(), method, request)
	if err := joined(answers); err != nil {
		return nil, err
	}
	return answers[0].response, nil
}

// joined is nil where no pod failed, the pods' own error where all failed alike, and otherwise PARTIAL_FAILURE, which names
// the pods that failed, with their errors, and those that did not.
func joined[Response any](answers []answer[Response]) error {
	var failed, done []string
	var failures []*apierr.Error
	for _, answer := range answers {
		if answer.err == nil {
			done = append(done, answer.pod)
			continue
		}
		failure := apierr.From(answer.err)
		failures = append(failures, failure)
		failed = append(failed, fmt.Sprintf("%s (%s: %s)", answer.pod, failure.Code, failure.Message))
	}
	if len(failures) == 0 {
		return nil
	}
	if len(done) == 0 && alike(failures) {
		return failures[0]
	}
	succeeded := "none succeeded"
	if len(done) > 0 {
		succeeded = "succeeded on " + strings.Join(done, ", ")
	}
	return apierr.New(apierr.PartialFailure, "%d of %d inference servers failed: %s; %s", len(failures), len(answers), strings.Join(failed, "; "), succeeded)
}

func alike(failures []*apierr.Error) bool {
	for _, failure := range failures {
		if failure.Code != failures[0].Code {
			return false
		}
	}
	return true
}
