"""Whatever arrives, leaves and expires: every call ends exactly once, in turn and in time, on a simulated clock."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from polyglot_inference.batching.queue import (
    LINGER_SHARE,
    LONGEST_ARRIVALS,
    SHORTEST_LINGER,
    Batch,
    CallQueue,
    Entry,
    Wait,
)
from polyglot_inference.errors import QueueFullError
from polyglot_inference.settings import QueueSettings


@dataclass(eq=False)
class Caller:
    """A call: when it comes, how long it waits, when its caller leaves, and what became of it."""

    arrives: float
    rows: int
    signature: str | None
    patience: float | None
    leaves_after: float | None
    ends: list[str] = field(default_factory=list)

    def entry(self) -> Waiting:
        deadline = None if self.patience is None else self.arrives + self.patience
        return Waiting(self.signature, self.rows, 1, deadline, self.ends)


@dataclass(slots=True, eq=False)
class Waiting(Entry):
    """A call in the queue."""

    ends: list[str]


class Simulation:
    """A model whose threads take batches of a queue; batches take `durations` in turn."""

    def __init__(self, callers: list[Caller], max_rows: int, max_delay: float, threads: int) -> None:
        limits = QueueSettings.model_validate({"maxSize": 20})
        self.queue = CallQueue("m", max_rows, max_delay, threads, limits)
        self._max_rows, self._longest, self._threads = max_rows, max_delay or math.inf, threads
        self._now = self._slowest = 0.0
        self._quickest = math.inf
        self._running: list[tuple[float, int, float, Batch]] = []
        self._events: list[tuple[float, int, str, Waiting]] = []
        self._batches = 0
        for caller in callers:
            entry = caller.entry()
            self._schedule(caller.arrives, "arrives", entry)
            if caller.leaves_after is not None:
                self._schedule(caller.arrives + caller.leaves_after, "leaves", entry)

    def _schedule(self, time: float, kind: str, entry: Waiting) -> None:
        heapq.heappush(self._events, (time, len(self._events), kind, entry))

    def run(self, durations: list[float]) -> None:
        """Until everything has happened."""
        while self._events or self._running or len(self.queue):
            while self._running and self._running[0][0] <= self._now:
                end, _, started, batch = heapq.heappop(self._running)
                self.queue.finished(batch, started, end)
            while self._events and self._events[0][0] <= self._now:
                _, _, kind, entry = heapq.heappop(self._events)
                self._happen(kind, entry)
            until = self._take(durations)
            coming = [until, *(event[0] for event in self._events[:1]), *(run[0] for run in self._running[:1])]
            self._now = max(self._now, min(coming))

    def _happen(self, kind: str, entry: Waiting) -> None:
        ends = entry.ends
        if kind == "arrives":
            try:
                self.queue.add(entry, self._now)
            except QueueFullError:
                ends.append("refused")
        elif not ends:
            self.queue.discard(entry)
            ends.append("left")

    def _take(self, durations: list[float]) -> float:
        """Let free threads take what there is; returns until when they linger."""
        while len(self._running) < self._threads:
            turn = self.queue.take(self._now)
            if isinstance(turn, Wait):
                return self._checked_wait(turn)
            self._check(turn)
            if turn.entries:
                seconds = durations[self._batches % len(durations)]
                self._batches += 1
                self._slowest, self._quickest = max(self._slowest, seconds), min(self._quickest, seconds)
                heapq.heappush(self._running, (self._now + seconds, self._batches, self._now, turn))
        return math.inf

    def _checked_wait(self, wait: Wait) -> float:
        if wait.until is None:
            assert len(self.queue) == 0, "a free thread takes what waits"
            return math.inf
        # A model is quick when a batch takes a quarter of the time in which its rows come, each in 0.5 ms.
        quick = self._quickest <= 0.25 * 0.0005 * self._max_rows
        shortest = LONGEST_ARRIVALS if quick else SHORTEST_LINGER
        linger = min(max(shortest, LINGER_SHARE * self._slowest), self._longest)
        assert self._now < wait.until <= self._now + linger + 1e-9
        return wait.until

    def _check(self, batch: Batch) -> None:
        for entry in batch.expired:
            assert entry.deadline is not None
            assert entry.deadline <= self._now
            entry.ends.append("expired")
        for entry in batch.entries:
            assert entry.deadline is None or self._now < entry.deadline
            entry.ends.append("run")
        assert batch.rows == sum(entry.rows for entry in batch.entries)
        assert len({entry.signature for entry in batch.entries}) <= 1
        if len(batch.entries) > 1:
            assert batch.rows <= self._max_rows
            assert batch.entries[0].signature is not None
        waits = [entry.queued_at for entry in batch.entries]
        assert waits == sorted(waits)


@given(
    st.lists(
        st.builds(
            Caller,
            arrives=st.floats(0, 0.05),
            rows=st.integers(0, 6),
            signature=st.sampled_from(["a", "b", None]),
            patience=st.none() | st.floats(0, 0.05),
            leaves_after=st.none() | st.floats(0, 0.05),
            ends=st.builds(list),
        ),
        max_size=40,
    ),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.002]),
    st.integers(1, 3),
    st.lists(st.floats(0.0001, 0.02), min_size=1, max_size=5),
)
def test_every_call_ends_exactly_once_in_turn_and_in_time(
    callers: list[Caller], max_rows: int, max_delay: float, threads: int, durations: list[float]
) -> None:
    simulation = Simulation(callers, max_rows, max_delay, threads)
    simulation.run(durations)
    assert all(len(caller.ends) == 1 for caller in callers)
    assert (len(simulation.queue), simulation.queue.waiting_rows) == (0, 0)
