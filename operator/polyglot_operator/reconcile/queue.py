"""A work queue for level-triggered reconciliation, after client-go's `util/workqueue`.

A key waits at most once, is never worked on twice at the same time, and is worked on again when it was added
meanwhile. What failed comes back with exponential backoff and jitter.
Source: https://pkg.go.dev/k8s.io/client-go/util/workqueue
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_DELAY = 0.5
MAX_DELAY = 30.0  # so that what was repaired elsewhere heals soon


class QueueClosed(Exception):  # noqa: N818 - the end of work, not a failure
    """The queue was closed: there is no further work."""


class WorkQueue(Generic[K]):
    """Keys to work on, in the order they were added.

    `clock` returns seconds on a monotonic scale; `jitter` a factor in [0, 1) that stretches backoffs by up to a half.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Return how many keys are ready to be worked on."""
        return len(self._ready)

    @property
    def processing(self) -> int:
        """Return how many keys are being worked on."""
        return len(self._processing)

    def waited(self, key: K) -> float:
        """Return for how many seconds a key that is being worked on had been waiting."""
        return self._processing[key]

    def add(self, key: K) -> None:
        """Ask for a key to be worked on, now or as soon as its present run has ended."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._clock()
        self._due.pop(key, None)
        if key not in self._processing:
            self._ready.append(key)
            self._changed.set()

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a key in `delay` seconds; an earlier appointment, or being ready already, wins."""
        if delay <= 0:
            self.add(key)
            return
        if self._closed or key in self._dirty:
            return
        due = self._clock() + delay
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._timers, (due, next(self._order), key))
            self._changed.set()

    def retry(self, key: K) -> float:
        """Ask for a key after its backoff, doubled by every failure in a row; return the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(BASE_DELAY * 2.0 ** min(failures, 32), MAX_DELAY) * (1 + self._jitter() / 2)
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: K) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for the next key and mark it as being worked on; `done` must follow.

        Raises `QueueClosed` once the queue is closed.
        """
        while True:
            if self._closed:
                raise QueueClosed
            key = self.pop()
            if key is not None:
                return key
            self._changed.clear()
            # Not asyncio.wait_for: its inner task would count as Kopf's, which waits for it when it stops.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.next_due()):
                    await self._changed.wait()

    def pop(self) -> K | None:
        """Return the next ready key and mark it as being worked on, or None while there is none."""
        self._promote()
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._processing[key] = self._clock() - self._dirty.pop(key)
        return key

    def next_due(self) -> float | None:
        """Return the seconds until the next appointment, or None when there is none."""
        self._drop_stale_timers()
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def done(self, key: K) -> None:
        """End the run of a key; when it was added meanwhile it is ready again."""
        del self._processing[key]
        if key in self._dirty:
            self._ready.append(key)
            self._changed.set()

    def close(self) -> None:
        """Hand out no further key; runs that have begun may end."""
        self._closed = True
        self._changed.set()

    def _promote(self) -> None:
        now = self._clock()
        self._drop_stale_timers()
        while self._timers and self._timers[0][0] <= now:
            _, _, key = heapq.heappop(self._timers)
            self.add(key)
            self._drop_stale_timers()

    def _drop_stale_timers(self) -> None:
        while self._timers and self._due.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
