package batch

import (
	"container/list"
	"time"
)

// queue holds the waiting entries of one kind, in the order in which they came, and knows how long their batches take.
type queue struct {
	entries list.List
	rows    int
	time    estimate
}

func (q *queue) push(e *entry) {
	e.place = q.entries.PushBack(e)
	q.rows += e.rows
}

func (q *queue) remove(e *entry) {
	q.entries.Remove(e.place)
	e.place = nil
	q.rows -= e.rows
}

// head is the entry that has waited longest, or nil.
func (q *queue) head() *entry {
	if front := q.entries.Front(); front != nil {
		return front.Value.(*entry)
	}
	return nil
}

// tooLate says whether the entry can't be answered in time by a batch of its own that starts now. What is old news is not
// believed: else a model that was slow once would never be asked again.
func (q *queue) tooLate(e *entry, now time.Time) bool {
	if e.deadline.IsZero() {
		return false
	}
	if !now.Before(e.deadline) {
		return true
	}
	expected, known := q.time.of(e.rows, now)
	return known && now.Add(expected).After(e.deadline)
}

// take removes the entries of the next batch, the head first, and says why there aren't more of them. Entries that can't be answered in time
// are removed too.
func (q *queue) take(maxRows, maxBytes int, now time.Time) (batch, late []*entry, reason string) {
	rows, bytes := 0, 0
	var earliest time.Time
	for e := q.head(); e != nil; e = q.head() {
		if q.tooLate(e, now) {
			q.remove(e)
			late = append(late, e)
			continue
		}
		if len(batch) > 0 {
			if rows+e.rows > maxRows || bytes+e.bytes > maxBytes {
				return batch, late, SentFull
			}
			expected, known := q.time.of(rows+e.rows, now)
			if end := now.Add(expected); known && (before(earliest, end) || before(e.deadline, end)) {
				return batch, late, SentDeadline
			}
		}
		q.remove(e)
		batch = append(batch, e)
		rows, bytes = rows+e.rows, bytes+e.bytes
		if earliest.IsZero() || before(e.deadline, earliest) {
			earliest = e.deadline
		}
	}
	if rows == maxRows {
		return batch, late, SentFull
	}
	return batch, late, SentIdle
}

// before says whether the deadline, if there is one, passes before then.
func before(deadline, then time.Time) bool {
	return !deadline.IsZero() && deadline.Before(then)
}
