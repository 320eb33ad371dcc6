package rest

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

var errPanicked = errors.New("panic")

// withRecovery turns a panic of the handler into an INTERNAL error, whose cause, for the log, holds the stack.
func withRecovery(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) (err error) {
		defer func() {
			if value := recover(); value != nil {
				err = fmt.Errorf("%w: %v\n%s", errPanicked, value, debug.Stack())
			}
		}()
		return next(w, r)
	}
}
