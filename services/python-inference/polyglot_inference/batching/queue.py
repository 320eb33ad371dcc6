"""The queue in front of a model, and the rule by which its calls are taken together.

The rule is work-conserving: a free thread takes what waits, at once. While it runs, calls gather; that is the batching.
Taken alone, this oscillates: the first caller to come back is run by itself while the others are still on their way.
Hence a linger: after a batch of several calls a thread waits until as many rows are there again, and now and then for
half as many more, but no longer than a fifth of what a batch usually takes, or a millisecond; with quick models whose
calls come thick and fast, as long as these take to come, up to five. A caller that is alone never waits. Nothing here
knows threads or the event loop; time comes in as arguments.
"""

import enum
import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from polyglot_inference.errors import QueueFullError
from polyglot_inference.settings import QueueSettings

# The linger in shares of what a batch usually takes.
LINGER_SHARE: Final = 0.2
# The linger of quick models, in seconds: with them it is the hand-over between event loop and thread that costs, some
# 100 us whatever it carries, and calls arrive one by one as the loop reads them.
SHORTEST_LINGER: Final = 0.001
# Where rows come faster than one in so many seconds, the event loop has its hands full with reading calls, and a thread
# that is woken sooner only holds it up. A quick model then lingers as long as its rows usually take to come and a half,
# up to `LONGEST_ARRIVALS` seconds.
_STEADY: Final = 0.0005
_ARRIVALS_SHARE: Final = 1.5
LONGEST_ARRIVALS: Final = 0.005
# A model is quick when a batch takes at most this share of the time in which its rows come.
_QUICK_SHARE: Final = 0.25
# After a linger in vain, how many batches at most pass before more rows than the last time are waited for again.
_MOST_RESTRAINT: Final = 64
# So many lingers after a batch its callers count as gone.
_RECENT: Final = 10
# The weight of the newest value in the moving averages of what a batch takes, and of the time from row to row.
_NEWEST: Final = 0.2
_NEWEST_ROW: Final = 0.05


class Reason(enum.Enum):
    """Why a batch was not larger."""

    ALONE = "alone"  # the call runs by itself: its model is never batched, or it fills or exceeds a batch
    FULL = "full"  # another call would not have fitted in
    IDLE = "idle"  # the model was free, and nothing else waited
    COMPLETE = "complete"  # as many rows as last time were there
    LINGER = "linger"  # the wait for as many rows as last time was over


@dataclass(slots=True, eq=False)
class Entry:
    """A call that waits for its model.

    Parameters
    ----------
    signature
        Calls of equal signature may share a batch; None runs alone.
    rows
        How much of a batch it takes.
    size
        Bytes that it holds while it waits.
    deadline
        Monotonic seconds after which it must not run; None without one.
    """

    signature: Hashable | None
    rows: int
    size: int
    deadline: float | None
    queued_at: float = field(default=0.0, init=False)


@dataclass(slots=True)
class Batch:
    """Calls to run together, and calls that were found to be past their deadline instead.

    They are what was added, whatever it has beside the fields of an entry.
    """

    entries: list[Any]
    reason: Reason
    expired: list[Any] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be run before `until`, or before so many `rows` wait."""

    until: float | None
    rows: int


_FOR_A_CALL: Final = Wait(None, 1)


class CallQueue:
    """The calls that wait for one model. Not thread-safe.

    Parameters
    ----------
    model
        The model's name, for messages.
    max_rows
        Most rows of a batch; 1 where the model is never batched.
    max_delay
        Most seconds that a thread lingers; 0 leaves `LINGER_SHARE` as the only bound.
    threads
        How many batches run at the same time.
    limits
        How much may wait. A single call is taken whatever its size.
    """

    def __init__(self, model: str, max_rows: int, max_delay: float, threads: int, limits: QueueSettings) -> None:
        self.waiting_rows = 0
        self._model = model
        self._max_rows = max_rows
        self._max_delay = max_delay or math.inf
        self._threads = threads
        self._limits = limits
        self._waiting_bytes = 0
        # Both in order of arrival: all calls, and those that may run together.
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._lanes: dict[Hashable, OrderedDict[Entry, None]] = {}
        self._wanted = 1  # rows that the next batch waits for
        self._wants_more = False  # whether that is more than came the last time
        self._before_more = 0  # batches that pass before more is wanted again
        self._restraint = 1  # how many those were the last time
        self._finished_at = -math.inf
        self._usual_seconds = 0.0
        self._last_at = -math.inf
        self._usual_gap = 2 * _STEADY  # from row to row

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, now: float) -> None:
        """Let a call wait.

        Raises
        ------
        QueueFullError
            Too much waits already.
        """
        if self._entries:
            self._require_room(entry)
        entry.queued_at = now
        rows, signature = entry.rows, entry.signature
        gap = min(now - self._last_at, 2 * _STEADY)
        self._usual_gap += ((gap / rows if rows > 1 else gap) - self._usual_gap) * _NEWEST_ROW
        self._last_at = now
        self._entries[entry] = None
        if signature is not None:
            lane = self._lanes.get(signature)
            if lane is None:
                lane = self._lanes[signature] = OrderedDict()
            lane[entry] = None
        self.waiting_rows += rows
        self._waiting_bytes += entry.size

    def discard(self, entry: Entry) -> None:
        """Forget a call that its caller gave up; without effect once it was taken."""
        if entry in self._entries:
            self._remove([entry])

    def clear(self) -> list[Any]:
        """Forget all calls and return them."""
        entries = list(self._entries)
        for entry in entries:
            self._remove([entry])
        return entries

    def take(self, now: float) -> Batch | Wait:
        """What a free thread has to run now, or what it has to wait for."""
        if not self._entries:
            return _FOR_A_CALL
        head = next(iter(self._entries))
        if head.signature is None:
            return self._single(head, now)
        if self._wanted == 1:
            return self._batch(head, now, Reason.IDLE)
        if self.waiting_rows >= self._wanted:
            return self._batch(head, now, Reason.COMPLETE)
        until = self._linger_until(head)
        if now < until:
            return Wait(until, self._wanted)
        return self._batch(head, now, Reason.LINGER if head.queued_at < until else Reason.IDLE)

    def finished(self, batch: Batch, started: float, now: float) -> None:
        """Learn from a batch that has run."""
        # One call of many rows says nothing of others to come.
        self._expect(batch.rows if len(batch.entries) > 1 else 1)
        self._finished_at = now
        seconds = now - started
        self._usual_seconds += (seconds - self._usual_seconds) * (_NEWEST if self._usual_seconds else 1)

    @property
    def expected_wait(self) -> float:
        """Seconds until what waits now will have run, by what batches usually take."""
        return math.ceil(self.waiting_rows / self._max_rows / self._threads) * self._usual_seconds

    def _expect(self, rows: int) -> None:
        """Set how many rows the next batch waits for, after one of so many."""
        if rows < self._wanted:
            self._restraint = min(2 * self._restraint, _MOST_RESTRAINT)
            self._before_more = self._restraint
        elif self._wants_more:
            self._restraint = 1
        self._wants_more = rows > 1 and not self._before_more
        self._before_more = max(0, self._before_more - 1)
        self._wanted = min(rows + (rows + 1) // 2 if self._wants_more else rows, self._max_rows)

    def _require_room(self, entry: Entry) -> None:
        limits = self._limits
        if self.waiting_rows + entry.rows > limits.max_size:
            raise self._full("queue.maxSize", limits.max_size, "rows", self.waiting_rows, entry.rows)
        if self._waiting_bytes + entry.size > limits.max_bytes:
            raise self._full("queue.maxBytes", limits.max_bytes, "bytes", self._waiting_bytes, entry.size)

    def _full(self, setting: str, limit: int, unit: str, waiting: int, more: int) -> QueueFullError:
        return QueueFullError(
            f"model {self._model!r} is overloaded: {waiting} {unit} wait for it, and this call's {more} would exceed"
            f" {setting} = {limit}; try again later",
            self.expected_wait,
        )

    def _remove(self, entries: Sequence[Entry]) -> None:
        """Forget entries of one signature."""
        signature = entries[0].signature
        if signature is not None:
            lane = self._lanes[signature]
            if len(entries) == len(lane):
                del self._lanes[signature]
            else:
                for entry in entries:
                    del lane[entry]
        for entry in entries:
            del self._entries[entry]
            self.waiting_rows -= entry.rows
            self._waiting_bytes -= entry.size

    def _linger(self) -> float:
        linger = max(SHORTEST_LINGER, LINGER_SHARE * self._usual_seconds)
        arrivals = self._wanted * self._usual_gap
        if self._usual_gap < _STEADY and self._usual_seconds <= _QUICK_SHARE * arrivals:
            linger = max(linger, min(_ARRIVALS_SHARE * arrivals, LONGEST_ARRIVALS))
        return min(linger, self._max_delay)

    def _linger_until(self, head: Entry) -> float:
        linger = self._linger()
        if head.queued_at > self._finished_at + _RECENT * linger:
            return -math.inf  # the callers of the last batch have gone
        until = max(self._finished_at, head.queued_at) + linger
        deadlines = (entry.deadline for entry in self._lanes[head.signature] if entry.deadline is not None)
        return min(until, min(deadlines, default=math.inf) - self._usual_seconds)

    def _single(self, entry: Entry, now: float) -> Batch:
        self._remove([entry])
        if entry.deadline is not None and now >= entry.deadline:
            return Batch([], Reason.ALONE, [entry])
        return Batch([entry], Reason.ALONE, rows=entry.rows)

    def _batch(self, head: Entry, now: float, reason: Reason) -> Batch:
        batch = Batch([], reason)
        for entry in self._lanes[head.signature]:
            if entry.deadline is not None and now >= entry.deadline:
                batch.expired.append(entry)
            elif batch.entries and batch.rows + entry.rows > self._max_rows:
                batch.reason = Reason.FULL
                break
            else:
                batch.entries.append(entry)
                batch.rows += entry.rows
        self._remove(batch.entries + batch.expired)
        if batch.rows >= self._max_rows:
            batch.reason = Reason.FULL
        return batch
