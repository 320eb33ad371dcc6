// Package app wires flags, logs, probes and the plugin into one process.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/plugin"
)

const (
	passInterval    = time.Second
	probeTimeout    = 5 * time.Second
	shutdownTimeout = 2 * time.Second
)

// Main runs the plugin until the context ends; the kubelet then finds no socket of ours.
func Main(ctx context.Context, args []string, stderr io.Writer) error {
	settings, err := parseSettings(args, stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: settings.logLevel}))
	devices, err := plugin.New(settings.pluginDir, settings.node, settings.source, log)
	if err != nil {
		return err
	}
	return serve(ctx, settings, devices, log)
}

func serve(ctx context.Context, settings settings, devices *plugin.Plugin, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", settings.healthAddress)
	if err != nil {
		return fmt.Errorf("listen for probes: %w; choose another --health-address", err)
	}
	probes := &http.Server{Handler: probeHandler(devices), ReadHeaderTimeout: probeTimeout}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := probes.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve probes: %w", err))
		}
	}()
	log.Info("Started", "pluginDir", settings.pluginDir, "probes", listener.Addr().String())

	devices.Run(ctx, passInterval)

	failure := context.Cause(ctx)
	if errors.Is(failure, context.Canceled) {
		failure = nil
	}
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer done()
	failure = errors.Join(failure, probes.Shutdown(stopping))
	log.Info("Stopped")
	return failure
}

// probeHandler answers /healthz while the process serves, and /readyz while the kubelet watches what is offered.
func probeHandler(devices *plugin.Plugin) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, nil)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, devices.State())
	})
	return mux
}

func answer(w http.ResponseWriter, state error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state != nil {
		http.Error(w, state.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n") // a prober that hung up is nobody's loss
}
