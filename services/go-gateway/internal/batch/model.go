package batch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

const (
	// lingerShare is the part of a batch's mean time that a member waits, at most, for more rows after a batch of several
	// requests. Without it callers fall into two groups that take turns, and batches stay at half the size that they could have.
	lingerShare = 5
	// A quick model's calls cost more than its work, so that larger batches pay although they take longer to come: after a batch
	// a member waits up to quickLingerShare times the batch's mean time, as long as that is no more than quickLinger.
	quickLingerShare = 2
	quickLinger      = time.Millisecond
	// mostRows bounds the rows that wait for one model; what bounds them in practice is the estimated wait.
	mostRows = 1 << 16
	// mostKinds bounds the queues of a model, whose keys come from callers. Beyond, those that are empty are forgotten.
	mostKinds = 64
	// headroom is what a batch's message may need beside the tensors.
	headroom = 64 << 10
)

// model holds what waits for one model, and which members work for it.
type model struct {
	name     string
	limits   Limits
	maxBytes int
	infer    func(context.Context, *pb.ModelInferRequest, ...grpc.CallOption) (*pb.ModelInferResponse, error)
	pods     Pods
	logger   *slog.Logger
	metrics  Metrics
	spare    sync.Pool // of *entry

	mu          sync.Mutex
	queues      map[string]*queue
	rows, bytes int              // that wait, in all queues
	slots       map[string]*slot // by the address of the member: it has a batch under way, or lingers
}

// slot is a member's place for one batch of the model.
type slot struct {
	address string
	rows    int // of the batch under way
	started time.Time
	linger  *time.Timer // nil: the batch is under way
	until   time.Time   // the end of the linger
	target  int         // rows that end it before
}

func newModel(name string, limits Limits, options Options) *model {
	return &model{
		name: name, limits: limits, maxBytes: int(max(options.MaxBytes-headroom, 1)), infer: options.Infer, pods: options.Pods,
		logger: options.Logger, metrics: options.Metrics(name), queues: map[string]*queue{}, slots: map[string]*slot{},
	}
}

// serve queues the entry and waits for what becomes of it.
func (m *model) serve(e *entry, alone func(context.Context) error) (*pb.ModelInferResponse, metadata.MD, error) {
	if err := m.enqueue(e); err != nil {
		return nil, nil, err
	}
	select {
	case t := <-e.turn:
		defer m.free(e)
		return m.follow(e, t, alone)
	case <-e.ctx.Done():
		m.leave(e)
		return nil, nil, apierr.From(e.ctx.Err())
	}
}

// follow does in the caller's goroutine what its turn says.
func (m *model) follow(e *entry, t turn, alone func(context.Context) error) (*pb.ModelInferResponse, metadata.MD, error) {
	noteWait(e)
	switch {
	case t.alone && t.slot != nil:
		return nil, nil, m.sendAlone(e, t.slot, alone)
	case t.alone:
		return nil, nil, alone(e.ctx)
	case t.err != nil:
		return nil, t.trailer, t.err
	default:
		return t.answer.part(t.index, e), nil, nil
	}
}

func (m *model) sendAlone(e *entry, s *slot, alone func(context.Context) error) error {
	succeeded := false
	defer func() { m.release(s, e.queue, 1, succeeded) }()
	err := alone(backend.Prefer(e.ctx, s.address))
	succeeded = err == nil
	return err
}

func (m *model) enqueue(e *entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queueOf(e.key)
	if err := m.admit(q, e); err != nil {
		return err
	}
	q.push(e)
	e.queue = q
	m.count(e.rows, e.bytes)
	reason := SentIdle
	if m.endLingers(q, e) {
		reason = SentLinger
	}
	m.dispatch(reason)
	return nil
}

func (m *model) queueOf(key []byte) *queue {
	if q, ok := m.queues[string(key)]; ok {
		return q
	}
	if len(m.queues) >= mostKinds {
		for other, q := range m.queues {
			if q.rows == 0 {
				delete(m.queues, other)
			}
		}
	}
	q := new(queue)
	m.queues[string(key)] = q
	return q
}

// admit refuses an entry for which there is no room or no time.
func (m *model) admit(q *queue, e *entry) error {
	if m.rows+e.rows > mostRows || m.rows > 0 && m.bytes+e.bytes > m.maxBytes {
		m.metrics.Dropped(DroppedFull)
		return apierr.New(apierr.ResourceExhausted, "%d rows in %d bytes wait for model %q, as many as may; try again later, or have more pods serve it", m.rows, m.bytes, m.name)
	}
	wait := m.wait(q, e)
	if !before(e.deadline, e.arrived.Add(wait)) {
		return nil
	}
	if _, idle := m.pods.Idlest(m.busy); idle {
		return nil
	}
	m.metrics.Dropped(DroppedOverload)
	refusal := apierr.New(apierr.ResourceExhausted, "the answer would take about %v, longer than the deadline allows; %d rows wait for model %q; try again later, or have more pods serve it",
		wait.Round(time.Millisecond), m.rows, m.name)
	refusal.RetryAfter = max(refusal.RetryAfter, wait)
	return refusal
}

// wait is the estimated time to the entry's answer if it is queued now; 0 where nothing is known.
func (m *model) wait(q *queue, e *entry) time.Duration {
	if len(m.slots) == 0 {
		return 0
	}
	rows := m.rows + e.rows
	each, known := q.time.of(min(rows, m.limits.MaxSize), e.arrived)
	if !known {
		return 0
	}
	first := each
	for _, s := range m.slots {
		whole, _ := q.time.of(s.rows, e.arrived)
		first = min(first, max(0, whole-e.arrived.Sub(s.started)))
	}
	batches := (rows + m.limits.MaxSize - 1) / m.limits.MaxSize
	rounds := (batches + len(m.slots) - 1) / len(m.slots)
	return first + time.Duration(rounds)*each
}

func (m *model) busy(address string) bool {
	_, taken := m.slots[address]
	return taken
}

// leave takes an entry whose caller no longer waits out of the queue, or out of its batch.
func (m *model) leave(e *entry) {
	m.mu.Lock()
	queued := e.place != nil
	if queued {
		e.queue.remove(e)
		m.count(-e.rows, -e.bytes)
		m.metrics.Dropped(whyEnded(e.ctx))
	}
	joined := e.batch
	if joined != nil {
		joined.leave()
	}
	m.mu.Unlock()
	if queued || joined != nil {
		return
	}
	if t := <-e.turn; t.slot != nil { // sent when it left the queue
		m.release(t.slot, e.queue, 1, false)
	}
}

func whyEnded(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return DroppedExpired
	}
	return DroppedCancelled
}

// wake looks for work for members that may have become free.
func (m *model) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dispatch(SentIdle)
}

// dispatch sends batches while there are entries and idle members; the first for this reason.
func (m *model) dispatch(reason string) {
	for {
		q := m.longestWaiting()
		if q == nil {
			return
		}
		address, idle := m.pods.Idlest(m.busy)
		if !idle {
			return
		}
		m.send(q, address, reason)
		reason = SentIdle
	}
}

// longestWaiting is the queue whose head came first, or nil.
func (m *model) longestWaiting() *queue {
	if m.rows == 0 {
		return nil
	}
	var found *queue
	for _, q := range m.queues {
		if q.rows > 0 && (found == nil || q.head().arrived.Before(found.head().arrived)) {
			found = q
		}
	}
	return found
}

// send gives the queue's next batch to the member.
func (m *model) send(q *queue, address, reason string) {
	now := time.Now()
	entries, late, cut := q.take(m.limits.MaxSize, m.maxBytes, now)
	for _, e := range late {
		m.count(-e.rows, -e.bytes)
		m.metrics.Dropped(DroppedExpired)
		e.waited = now.Sub(e.arrived)
		e.turn <- turn{err: apierr.New(apierr.DeadlineExceeded, "the deadline would have passed before model %q could answer; the request waited %v and was not executed", m.name, e.waited.Round(time.Microsecond))}
	}
	if len(entries) == 0 {
		return
	}
	if cut != SentIdle {
		reason = cut
	}
	s, bytes := &slot{address: address, started: now}, 0
	m.slots[address] = s
	for _, e := range entries {
		s.rows, bytes = s.rows+e.rows, bytes+e.bytes
		e.waited = now.Sub(e.arrived)
		m.metrics.Waited(e.waited.Seconds())
	}
	m.count(-s.rows, -bytes)
	m.metrics.Sent(reason, s.rows)
	if len(entries) == 1 {
		entries[0].turn <- turn{alone: true, slot: s}
		return
	}
	go newBatch(m, s, entries, reason).run()
}

func (m *model) count(rows, bytes int) {
	m.rows += rows
	m.bytes += bytes
	m.metrics.Queued(rows, bytes)
}

// release ends a slot's batch: the member lingers, or is free for the next.
func (m *model) release(s *slot, q *queue, requests int, succeeded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if succeeded {
		q.time.observe(s.rows, now.Sub(s.started), now)
	}
	if linger := m.lingerOf(q); succeeded && requests > 1 && linger > 0 && m.rows < m.limits.MaxSize {
		s.target, s.until = min(m.rows+s.rows, m.limits.MaxSize), now.Add(linger)
		s.linger = time.AfterFunc(linger, func() { m.lingered(s) })
		return
	}
	delete(m.slots, s.address)
	m.dispatch(SentIdle)
}

func (m *model) lingerOf(q *queue) time.Duration {
	mean := q.time.mean()
	linger := max(mean/lingerShare, min(mean*quickLingerShare, quickLinger))
	if m.limits.MaxDelay > 0 {
		linger = min(linger, m.limits.MaxDelay)
	}
	return linger
}

// lingered ends a linger by its timer.
func (m *model) lingered(s *slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slots[s.address] != s {
		return // ended by rows meanwhile
	}
	delete(m.slots, s.address)
	m.dispatch(SentLinger)
}

// endLingers ends those that have the rows they wait for, or whose end would be too late for the new entry.
func (m *model) endLingers(q *queue, e *entry) (ended bool) {
	for address, s := range m.slots {
		if s.linger == nil {
			continue
		}
		expected, _ := q.time.of(e.rows, e.arrived)
		if m.rows >= s.target || before(e.deadline, s.until.Add(expected)) {
			s.linger.Stop()
			delete(m.slots, address)
			ended = true
		}
	}
	return ended
}
