"""Runs a model's calls on threads of its own, so that the event loop never waits for a model."""

import asyncio
import contextlib
import contextvars
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polyglot_inference.batching.queue import Batch, CallQueue, Entry
from polyglot_inference.errors import DeadlineExceededError, ModelFailedError

Result = TypeVar("Result")
Observe = Callable[[Batch, Sequence[float]], None]
Tell = Callable[[Any], None]
"""Told, on the event loop, what became of a piece of work: its result or its error; an asyncio.CancelledError where it
was dropped with the whole queue."""


@dataclass(slots=True, eq=False)
class Work(Entry):
    """What waits for a thread, and who is told its outcome.

    Parameters
    ----------
    together
        Runs the works of a batch; gives each one's result or error. Equal for works of equal signature.
    tell
        Told the outcome.
    """

    together: Callable[[Sequence[Any]], Sequence[Any]]
    tell: Tell | None
    executor: "ModelExecutor" = field(init=False)

    def cancel(self) -> None:
        """Give it up: nobody is told its outcome, and it is not run unless it runs already."""
        self.tell = None
        self.executor.drop(self)


@dataclass(slots=True, eq=False)
class _Job(Work):
    """Work that runs by itself."""

    job: Callable[[], Any]


async def outcome_of(start: Callable[[Tell], Work]) -> Any:
    """Wait for what `start` starts; to cancel the one is to cancel the other."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    work = start(functools.partial(_tell_future, outcome))
    try:
        return await outcome
    except asyncio.CancelledError:
        work.cancel()
        raise


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
        self._done: deque[tuple[Sequence[Work], Sequence[Any]]] = deque()
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

        def start(tell: Tell) -> Work:
            # The context carries the current span to the model's own spans and log lines.
            guarded = functools.partial(contextvars.copy_context().run, job)
            return self.submit(_Job(None, 1, 0, deadline, _alone, tell, guarded))

        result: Result = await outcome_of(start)
        return result

    def submit(self, work: Work) -> Work:
        """Run a work, perhaps with others of its signature.

        Raises
        ------
        QueueFullError
            Too much waits already; nothing will be told.
        """
        work.executor = self
        with self._lock:
            self._queue.add(work, self._clock())
            if self._sleeping and self._queue.waiting_rows >= self._wanted:
                self._sleeping.pop().release()
        return work

    def drop(self, work: Work) -> None:
        """Take a work off the queue; without effect once it runs."""
        with self._lock:
            self._queue.discard(work)

    def close(self) -> None:
        """Drop what waits; what runs is left to the end of the process."""
        with self._lock:
            self._closed = True
            dropped = self._queue.clear()
            while self._sleeping:
                self._sleeping.pop().release()
        self._deliver(dropped, [asyncio.CancelledError()] * len(dropped))

    def _work(self) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        while batch := self._next(alarm):
            if batch.expired:
                self._deliver(batch.expired, [self._expiry(work) for work in batch.expired])
            if batch.entries:
                self._deliver(batch.entries, self._run(batch))

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
        self._observe(batch, [started - work.queued_at for work in batch.entries])
        outcomes: Sequence[Any]
        try:
            outcomes = batch.entries[0].together(batch.entries)
        except BaseException as error:  # noqa: BLE001 - whatever a work raises is its caller's to know
            outcomes = [self._failure(error)] * len(batch.entries)
        with self._lock:
            self._queue.finished(batch, started, self._clock())
        return outcomes

    def _expiry(self, work: Work) -> DeadlineExceededError:
        waited = self._clock() - work.queued_at
        return DeadlineExceededError(
            f"deadline exceeded after {waited:.3f} s in the queue of model {self._name!r}; not executed"
        )

    def _failure(self, error: BaseException) -> Exception:
        # A future refuses StopIteration, and SystemExit would end the event loop.
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        return ModelFailedError(f"model {self._name!r} raised {type(error).__name__}: {error}")

    def _deliver(self, works: Sequence[Work], outcomes: Sequence[Any]) -> None:
        self._done.append((works, outcomes))
        if not self._delivering:
            self._delivering = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._delivering = False  # first: what threads add from here on has a wake-up of its own
        while self._done:
            for work, outcome in zip(*self._done.popleft(), strict=True):
                tell, work.tell = work.tell, None  # which breaks their cycle: there is one for every call
                if tell is None:
                    continue
                try:
                    tell(outcome)
                except Exception as error:  # noqa: BLE001 - a fault with one must not lose the outcomes of others
                    self._loop.call_exception_handler({"message": f"Lost an outcome: {error}", "exception": error})


def _alone(jobs: Sequence[_Job]) -> Sequence[Any]:
    (alone,) = jobs
    return [alone.job()]


def _tell_future(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
