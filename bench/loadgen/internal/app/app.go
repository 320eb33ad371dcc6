// Package app turns flags into one run and prints its summary as JSON.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/load"
	"github.com/polyglot-dev/polyglot-operator/bench/loadgen/internal/target"
)

// Main measures one target; the summary goes to stdout, and a line to stderr when it begins.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("loadgen", flag.ContinueOnError)
	flags.SetOutput(stderr)
	protocol := flags.String("protocol", "rest", "rest or grpc")
	hostPort := flags.String("target", "127.0.0.1:8000", "loopback address and port")
	path := flags.String("path", "", "URL path (rest) or full method name (grpc)")
	file := flags.String("body", "", "file with the JSON text (rest) or the serialised message (grpc)")
	plan := load.Plan{Started: func() { _, _ = fmt.Fprintln(stderr, "every client is connected") }}
	flags.IntVar(&plan.Clients, "clients", 1, "connections, each with one request at a time")
	flags.IntVar(&plan.Requests, "requests", load.MaxRequests, "stop after this many requests")
	flags.IntVar(&plan.AtLeast, "at-least", 0, "after an interrupt, go on until this many requests are sent")
	flags.DurationVar(&plan.Duration, "duration", 10*time.Second, "stop after this time")
	flags.Float64Var(&plan.Rate, "rate", 0, "requests per second of all clients together; 0: as many as are answered")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: every setting is a flag; see --help", flags.Arg(0))
	}
	body, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("--body: %w", err)
	}
	open, err := opener(*protocol, *hostPort, *path, body)
	if err != nil {
		return err
	}
	summary, err := load.Run(ctx, plan, open)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(summary)
}

func opener(protocol, hostPort, path string, body []byte) (load.Open, error) {
	switch protocol {
	case "rest":
		return func() (target.Call, func() error, error) { return target.REST(hostPort, path, body) }, nil
	case "grpc":
		return func() (target.Call, func() error, error) { return target.GRPC(hostPort, path, body) }, nil
	default:
		return nil, fmt.Errorf("--protocol %q: choose rest or grpc", protocol)
	}
}
