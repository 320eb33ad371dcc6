package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second
	maxHeaderBytes    = 64 << 10
	// A sidecar keeps an idle connection for an hour. The gateway must not close it first, or a request could cross the
	// closing and fail.
	idleTimeout = 65 * time.Minute
)

// restServer speaks HTTP/1.1 and, without TLS, HTTP/2.
func restServer(draining *atomic.Bool, maxConnectionAge time.Duration, logger *slog.Logger, handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           closing(draining, handler),
		ConnContext:       aging(maxConnectionAge),
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		// OPTIONS * is a path that is none of ours, as any other.
		DisableGeneralOptionsHandler: true,
	}
}

// endOfLife is the key under which a connection's context holds when it is old.
type endOfLife struct{}

// aging gives connections an end, spread by a tenth, as that of gRPC's is, so that those opened together don't end together.
func aging(maxAge time.Duration) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, _ net.Conn) context.Context {
		age := time.Duration(float64(maxAge) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // spreads load, guards nothing
		return context.WithValue(ctx, endOfLife{}, time.Now().Add(age))
	}
}

func isOld(r *http.Request) bool {
	end, known := r.Context().Value(endOfLife{}).(time.Time)
	return known && !time.Now().Before(end)
}

// closing asks callers of a gateway that drains, and those whose connection is old, to connect anew next time;
// net/http makes a GOAWAY of it on HTTP/2.
func closing(draining *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() || isOld(r) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// adminServer serves what the cluster asks: /healthz (the process answers), /readyz (it takes calls, whether or not there are
// pods) and /metrics.
func adminServer(draining *atomic.Bool, logger *slog.Logger, metrics http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			say(w, http.StatusServiceUnavailable, "draining")
			return
		}
		say(w, http.StatusOK, "ok")
	})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // a prober that left needs no answer
}
