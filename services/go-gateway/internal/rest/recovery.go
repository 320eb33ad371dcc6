package rest

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// withRecovery turns a panic of the endpoint into an INTERNAL error, whose cause, for the log, holds the stack.
func withRecovery(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request) (text []byte, err error) {
		defer func() {
			if value := recover(); value != nil {
				err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
			}
		}()
		return next(w, r)
	}
}
