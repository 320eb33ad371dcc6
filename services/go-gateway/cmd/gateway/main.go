// Command gateway serves the Open Inference Protocol over REST and gRPC in front of inference pods.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/app"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; giving the handler back lets a second one end the process at once.
	context.AfterFunc(ctx, stop)
	err := app.Gateway{Version: version, Stdin: os.Stdin}.Main(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
