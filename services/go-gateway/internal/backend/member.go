package backend

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
)

// A pod whose call failed gets no calls for asideFirst, then one trial call; each failed trial doubles the time, to asideMost.
const (
	asideFirst = time.Second
	asideMost  = 30 * time.Second
)

// pool is the record of all pods. One lock guards it and its members: a pick must see all counts at one moment, or two
// concurrent calls would both take the pod that was least loaded.
type pool struct {
	now    func() time.Time
	logger *slog.Logger
	wanted chan struct{} // a lookup, ahead of its time

	picker atomic.Pointer[picker] // the last; its members may have lost their connections since

	mu      sync.Mutex
	members map[string]*member
	picks   uint64
	changed func() // called without the lock
}

// member is the record of one pod's worker process: of the pod itself where it has but one, which is what is said below.
//
// Calls, not the connection, say whether a pod lives: behind a sidecar the connection to a pod that is gone stays READY and
// every call on it fails UNAVAILABLE after seconds. So a failed call puts the pod aside, and only calls that were
// picked after that count as news of it: calls that failed together are one piece of evidence.
type member struct {
	pool    *pool
	address string

	connection  connectivity.State
	outstanding int
	lastPick    uint64 // the pick's number: among equals the longest unpicked is next
	calls       uint64 // ever

	failures   int       // in a row; 0: trusted
	asideUntil time.Time // from then on one trial call may go there
	trial      bool      // the trial call is under way
	epoch      int       // counts how often the pod was put aside

	lane laneRecord
}

// verdict is what the end of one call says about its pod.
type verdict int

const (
	nothing     verdict = iota // the caller left or its deadline passed before the pod answered
	answered                   // the pod answered, be it with an error of the application
	unreachable                // the call didn't get to a pod that serves
)

// ticket is one call on its way to a member.
type ticket struct {
	member *member
	epoch  int
	trial  bool
}

func newPool(options Options) *pool {
	now := options.Now
	if now == nil {
		now = time.Now
	}
	return &pool{now: now, logger: options.Logger, wanted: make(chan struct{}, 1), members: map[string]*member{}, changed: func() {}}
}

// replace makes addresses, which are sorted, the pods that exist, keeping the record of those that already did.
func (p *pool) replace(addresses []string) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	members := make([]*member, len(addresses))
	known := p.members
	p.members = make(map[string]*member, len(addresses))
	for i, address := range addresses {
		m, ok := known[address]
		if !ok {
			m = &member{pool: p, address: address, connection: connectivity.Idle}
		}
		members[i] = m
		p.members[address] = m
	}
	return members
}

// pick takes the least loaded of the ready members that aren't put aside, or of all where every one is. It passes over
// `excluded`, and returns false where that leaves none.
func (p *pool) pick(ready []*member, excluded *member) (ticket, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	best := p.best(ready, excluded, now)
	if best == nil {
		return ticket{}, false
	}
	return best.take(now), true
}

// best is the member that pick takes, or nil; the caller holds the lock.
func (p *pool) best(ready []*member, excluded *member, now time.Time) *member {
	var best, last *member // last: the last resort, where all are put aside
	for _, m := range ready {
		if m == excluded {
			continue
		}
		if m.trusted(now) && m.before(best) {
			best = m
		}
		if m.before(last) {
			last = m
		}
	}
	if best == nil {
		return last
	}
	return best
}

// idlest is the member that pick would take, passing over those that are busy. Members that are put aside are a last resort
// only where all are: a busy member that is trusted is worth waiting for.
func (p *pool) idlest(busy func(address string) bool) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	var best, last *member
	connected, trusted := false, false
	for _, m := range p.members {
		if m.connection != connectivity.Ready {
			continue
		}
		connected, trusted = true, trusted || m.trusted(now)
		if busy(m.address) {
			continue
		}
		if m.trusted(now) && m.before(best) {
			best = m
		}
		if m.before(last) {
			last = m
		}
	}
	switch {
	case !connected:
		return "", !busy("")
	case best != nil:
		return best.address, true
	case !trusted && last != nil:
		return last.address, true
	default:
		return "", false
	}
}

func (p *pool) notify(changed func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = changed
}

// trusted says whether the member may get a call: it isn't put aside, or its trial call is due.
func (m *member) trusted(now time.Time) bool {
	return m.failures == 0 || !m.trial && !now.Before(m.asideUntil)
}

func (m *member) before(other *member) bool {
	if other == nil {
		return true
	}
	if m.outstanding != other.outstanding {
		return m.outstanding < other.outstanding
	}
	return m.lastPick < other.lastPick
}

func (m *member) take(now time.Time) ticket {
	m.pool.picks++
	m.lastPick = m.pool.picks
	m.outstanding++
	m.calls++
	trial := m.failures > 0 && m.trusted(now)
	if trial {
		m.trial = true
	}
	return ticket{member: m, epoch: m.epoch, trial: trial}
}

// finish takes the call off its member's count and draws the conclusion about the pod.
func (t ticket) finish(v verdict) {
	if t.conclude(v) {
		t.member.pool.told()
	}
}

// told tells whoever asked that calls may go to more members than before.
func (p *pool) told() {
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	changed()
}

// conclude returns whether the pod was taken back.
func (t ticket) conclude(v verdict) bool {
	p := t.member.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	t.member.outstanding--
	if t.trial {
		t.member.trial = false
	}
	if t.epoch != t.member.epoch {
		return false
	}
	switch v {
	case answered:
		return t.member.restore()
	case unreachable:
		t.member.putAside(p.now())
	case nothing:
	}
	return false
}

func (m *member) restore() bool {
	if m.failures == 0 {
		return false
	}
	m.pool.logger.Info("Took a pod back", "pod", m.address)
	m.failures, m.trial = 0, false
	return true
}

func (m *member) putAside(now time.Time) {
	if m.failures > 0 && now.Before(m.asideUntil) {
		return // a call that went there because every pod is put aside
	}
	pause := min(asideFirst<<min(m.failures, 10), asideMost)
	m.failures++
	m.epoch++
	m.asideUntil = now.Add(pause)
	if m.failures == 1 {
		m.pool.logger.Warn("Put a pod aside: a call to it failed", "pod", m.address, "for", pause)
	}
}

// offersAnother says whether a pod other than m is connected.
func (p *pool) offersAnother(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.members {
		if other != m && other.connection == connectivity.Ready {
			return true
		}
	}
	return false
}

func (m *member) observe(state connectivity.State) {
	m.pool.mu.Lock()
	m.connection = state
	ending := m.lane.open
	if state != connectivity.Ready {
		m.lane.open = nil
	}
	m.pool.mu.Unlock()
	if state == connectivity.Ready {
		m.pool.told()
	} else if ending != nil {
		ending.Retire() // the server ends connections from time to time, with the calls that they have
	}
}

// connected are the addresses of the members with a connection, sorted.
func (p *pool) connected() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	addresses := make([]string, 0, len(p.members))
	for address, m := range p.members {
		if m.connection == connectivity.Ready {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return addresses
}

func (p *pool) status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Status, 0, len(p.members))
	for _, m := range p.members {
		list = append(list, Status{
			Address: m.address, Connection: m.connection, Outstanding: m.outstanding, Calls: m.calls, PutAside: m.failures > 0, Lane: m.lane.open != nil,
		})
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Address, b.Address) })
	return list
}
