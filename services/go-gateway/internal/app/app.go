// Package app puts the gateway together: settings, telemetry, the connection to the pods, three listeners, and their end.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

// flushTimeout bounds the export of the last spans, after the drain.
const flushTimeout = 2 * time.Second

// Gateway is the program.
type Gateway struct {
	Version string
	Stdin   io.Reader
}

// Main runs the gateway until ctx ends, or with --end-with-stdin Stdin does, then drains it. Logs and the text of --help and --version go to stderr.
func (g Gateway) Main(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "", "the gateway's YAML `file` (required)")
	endWithStdin := flags.Bool("end-with-stdin", false, "drain and end when standard input does: a parent that is killed leaves no gateway behind")
	version := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; the gateway takes flags only, see --help", flags.Arg(0))
	case *version:
		_, err := fmt.Fprintln(stderr, "gateway", g.Version)
		return err
	case *path == "":
		return errors.New("--config is required: the path of gateway.yaml")
	}
	settings, err := config.Load(*path)
	if err != nil {
		return err
	}
	if *endWithStdin {
		ctx = until(ctx, g.Stdin)
	}
	return g.serve(ctx, settings, stderr)
}

// until is a context that ends with a stream. The wait for that can't be called off: it lasts as long as the process.
func until(ctx context.Context, stream io.Reader) context.Context {
	ctx, end := context.WithCancel(ctx)
	go func() {
		defer end()
		_, _ = io.Copy(io.Discard, stream) // a broken stream has ended, too
	}()
	return ctx
}

func (g Gateway) serve(ctx context.Context, settings config.Config, stderr io.Writer) error {
	logger := telemetry.NewLogger(stderr, settings.Log.Level)
	tradeMemoryForTime(logger)
	stopTracing, err := telemetry.StartTracing(ctx, g.Version, logger)
	if err != nil {
		return err
	}
	process, err := open(ctx, settings, telemetry.NewMetrics(g.Version), logger)
	if err == nil {
		logger.Info("Started", "version", g.Version, "rest", process.listeners.rest.Addr().String(), "grpc", process.listeners.grpc.Addr().String(),
			"admin", process.listeners.admin.Addr().String(), "backend", settings.Backend.String())
		err = process.run(ctx)
		logger.Info("Stopped")
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if failed := stopTracing(flush); failed != nil {
		logger.Warn("The last spans were not exported", "error", failed)
	}
	return err
}
