package batch

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
)

// batch is a call for several entries, in a goroutine of its own: no caller's leaving ends it for the others.
type batch struct {
	model   *model
	slot    *slot
	entries []*entry
	reason  string

	ctx     context.Context
	cancel  context.CancelFunc
	waiting int // callers that still wait; guarded by the model's lock
}

// newBatch bounds the call by the latest deadline among the entries; each caller minds its own.
func newBatch(m *model, s *slot, entries []*entry, reason string) *batch {
	b := &batch{model: m, slot: s, entries: entries, reason: reason, waiting: len(entries)}
	var latest time.Time
	bounded := true
	for _, e := range entries {
		e.batch = b
		bounded = bounded && !e.deadline.IsZero()
		if e.deadline.After(latest) {
			latest = e.deadline
		}
	}
	ctx := baggage.ContextWithoutBaggage(context.WithoutCancel(entries[0].ctx))
	if bounded {
		b.ctx, b.cancel = context.WithDeadline(ctx, latest)
	} else {
		b.ctx, b.cancel = context.WithCancel(ctx)
	}
	return b
}

// leave notes that one caller no longer waits; with the last, the call ends.
func (b *batch) leave() {
	b.waiting--
	if b.waiting == 0 {
		b.cancel()
	}
}

func (b *batch) run() {
	defer b.cancel()
	ctx, span := b.trace(metadata.NewOutgoingContext(b.ctx, b.metadata()))
	defer span.End()
	var trailer metadata.MD
	response, err := b.model.infer(backend.Prefer(ctx, b.slot.address), join(b.entries), grpc.Trailer(&trailer))
	took := time.Since(b.slot.started)
	b.model.release(b.slot, b.entries[0].queue, len(b.entries), err == nil)
	b.log(ctx, took, err)
	if err != nil {
		span.SetStatus(spanFailed, status.Convert(err).Message())
		b.fail(err, trailer)
		return
	}
	answer, err := split(b.entries, response)
	if err != nil {
		span.SetStatus(spanFailed, err.Error())
		b.model.logger.LogAttrs(ctx, slog.LevelError, "Failed batch: the answer doesn't fit the requests",
			slog.String("model", b.model.name), slog.String("backend", b.slot.address), slog.String("error", err.Error()))
		b.fail(apierr.New(apierr.Internal, "model %q answered a batch with other rows than were asked for: %w; its first dimension must be that of its inputs, or batching must be off", b.model.name, err), nil)
		return
	}
	for index, e := range b.entries {
		e.turn <- turn{answer: answer, index: index}
	}
}

// metadata is what all callers sent alike, such as the header that a restricted API asks for.
func (b *batch) metadata() metadata.MD {
	shared, _ := metadata.FromOutgoingContext(b.entries[0].ctx)
	for _, e := range b.entries[1:] {
		if len(shared) == 0 {
			break
		}
		other, _ := metadata.FromOutgoingContext(e.ctx)
		maps.DeleteFunc(shared, func(key string, values []string) bool { return !slices.Equal(values, other[key]) })
	}
	return shared
}

// fail gives the error to all, or has each tried by itself where one of them may be to blame.
func (b *batch) fail(err error, trailer metadata.MD) {
	alone := blamesOne(err, trailer)
	for _, e := range b.entries {
		e.turn <- turn{alone: alone, err: err, trailer: trailer}
	}
}

// blamesOne says whether the failure can be due to what one request holds, so that the others would succeed without it.
func blamesOne(err error, trailer metadata.MD) bool {
	if _, own := err.(*apierr.Error); own { //nolint:errorlint // an error of the call, never wrapped, or of split
		return false
	}
	switch failure := apierr.FromCall(err, trailer); failure.Code {
	case apierr.ModelFailed, apierr.MessageTooLarge:
		return true
	default:
		return failure.GRPC == codes.InvalidArgument
	}
}

func (b *batch) log(ctx context.Context, took time.Duration, err error) {
	if !b.model.logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	b.model.logger.LogAttrs(ctx, slog.LevelDebug, "Sent a batch", slog.String("model", b.model.name), slog.String("backend", b.slot.address),
		slog.Int("requests", len(b.entries)), slog.Int("rows", b.slot.rows), slog.String("reason", b.reason),
		slog.String("status", status.Code(err).String()), slog.Duration("elapsed", took))
}
