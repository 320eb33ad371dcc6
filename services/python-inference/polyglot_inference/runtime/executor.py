"""Runs a model's calls on threads of its own, so that the event loop never waits for a model."""

import asyncio
import contextlib
import contextvars
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from polyglot_inference.batching.queue import Batch, CallQueue, Entry
from polyglot_inference.errors import DeadlineExceededError, ModelFailedError

Result = TypeVar("Result")
Job = Callable[[], Any]
Observe = Callable[[Batch, Sequence[float]], None]


class ModelExecutor:
    """The threads of a model, and the queue in front of them.

    A call that is cancelled or past its deadline while it waits is dropped without running. One that runs already
    runs to its end: Python cannot stop a thread.

    Parameters
    ----------
    name
        The model's name, for thread names and messages.
    threads
        How many batches run at the same time.
    queue
        Decides what runs next.
    observe
        Told every batch that runs, and how many seconds each of its entries had waited.
    clock
        Monotonic seconds, the scale of deadlines.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        queue: CallQueue,
        observe: Observe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._queue = queue
        self._observe = observe
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._wanted = 1  # a sleeping thread is woken when so many rows are queued
        # Of each sleeping thread the lock that it waits for. A Condition does the same at three times the cost.
        self._sleeping: list[threading.Lock] = []
        self._closed = False
        # What threads hand to the event loop: it is woken once for all that is there, not once for every call.
        self._done: deque[tuple[Entry, Any]] = deque()
        self._delivering = False
        for number in range(threads):
            threading.Thread(target=self._work, name=f"model-{name}_{number}", daemon=True).start()

    async def run(self, job: Callable[[], Result], deadline: float | None) -> Result:
        """Run `job` on a thread by itself, within the caller's context variables.

        Raises
        ------
        DeadlineExceededError
            The deadline passed before a thread was free; the job was not run.
        QueueFullError
            Too much waits already.
        """
        # The context carries the current span to the model's own spans and log lines.
        guarded = functools.partial(contextvars.copy_context().run, job)
        result: Result = await self.submit(Entry(guarded, _alone, None, 1, 0, deadline))
        return result

    def submit(self, entry: Entry) -> asyncio.Future[Any]:
        """Run an entry, perhaps with others of its signature. Errors are those of `run`."""
        entry.future = outcome = _Outcome(self._drop, entry, loop=self._loop)
        with self._lock:
            self._queue.add(entry, self._clock())
            if self._sleeping and self._queue.waiting_rows >= self._wanted:
                self._sleeping.pop().release()
        return outcome

    def _drop(self, entry: Entry) -> None:
        with self._lock:
            self._queue.discard(entry)

    def close(self) -> None:
        """Drop what waits; what runs is left to the end of the process."""
        with self._lock:
            self._closed = True
            dropped = self._queue.clear()
            while self._sleeping:
                self._sleeping.pop().release()
        for entry in dropped:
            entry.future.cancel()

    def _work(self) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        while batch := self._next(alarm):
            outcomes = [(entry, self._expiry(entry)) for entry in batch.expired]
            if batch.entries:
                outcomes += zip(batch.entries, self._run(batch), strict=True)
            self._deliver(outcomes)

    def _next(self, alarm: threading.Lock) -> Batch | None:
        """The next batch, once there is one; None when closed. A thread sleeps by waiting for its alarm."""
        while True:
            with self._lock:
                if self._closed:
                    return None
                turn = self._queue.take(self._clock())
                if isinstance(turn, Batch):
                    return turn
                self._wanted = turn.rows
                self._sleeping.append(alarm)
            if not alarm.acquire(timeout=-1 if turn.until is None else max(0.0, turn.until - self._clock())):
                self._oversleep(alarm)

    def _oversleep(self, alarm: threading.Lock) -> None:
        """Take an alarm back that did not ring in time, or was about to."""
        with self._lock:
            if alarm in self._sleeping:
                self._sleeping.remove(alarm)
            else:
                alarm.acquire()

    def _run(self, batch: Batch) -> Sequence[Any]:
        started = self._clock()
        self._observe(batch, [started - entry.queued_at for entry in batch.entries])
        outcomes: Sequence[Any]
        try:
            outcomes = batch.entries[0].together([entry.job for entry in batch.entries])
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is its caller's to know
            outcomes = [self._failure(error)] * len(batch.entries)
        with self._lock:
            self._queue.finished(batch, started, self._clock())
        return outcomes

    def _expiry(self, entry: Entry) -> DeadlineExceededError:
        waited = self._clock() - entry.queued_at
        return DeadlineExceededError(
            f"deadline exceeded after {waited:.3f} s in the queue of model {self._name!r}; not executed"
        )

    def _failure(self, error: BaseException) -> Exception:
        # A future refuses StopIteration, and SystemExit would end the event loop.
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        return ModelFailedError(f"model {self._name!r} raised {type(error).__name__}: {error}")

    def _deliver(self, outcomes: Iterable[tuple[Entry, Any]]) -> None:
        self._done.extend(outcomes)
        if not self._delivering:
            self._delivering = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._delivering = False  # first: what threads add from here on has a wake-up of its own
        while self._done:
            entry, outcome = self._done.popleft()
            future, entry.future = entry.future, None  # which breaks their cycle: there is one for every call
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


class _Outcome(asyncio.Future[Any]):
    """What becomes of an entry; cancelled, it takes the entry off the queue."""

    def __init__(self, drop: Callable[[Entry], None], entry: Entry, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._drop = drop
        self._entry = entry

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the entry up; one that runs already runs to its end."""
        self._drop(self._entry)
        return super().cancel(msg)


def _alone(jobs: Sequence[Job]) -> Sequence[Any]:
    (job,) = jobs
    return [job()]
