"""Runs a model's calls on threads of its own, so that the event loop never waits for a model."""

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from polyglot_inference.errors import DeadlineExceededError

Result = TypeVar("Result")


class ModelExecutor:
    """A first-in-first-out queue in front of a model's threads.

    A call that is cancelled or past its deadline while it waits is dropped without running. One that runs already
    runs to its end: Python cannot stop a thread.

    Parameters
    ----------
    name
        The model's name, for thread names and messages.
    concurrency
        How many calls run at the same time.
    observe_wait
        Told how many seconds each call that ran had waited.
    clock
        Monotonic seconds, the scale of deadlines.
    """

    def __init__(
        self,
        name: str,
        concurrency: int,
        observe_wait: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"model-{name}")
        self._observe_wait = observe_wait
        self._clock = clock

    async def run(self, job: Callable[[], Result], deadline: float | None) -> Result:
        """Run `job` on a thread, within the caller's context variables.

        Raises
        ------
        DeadlineExceededError
            The deadline passed before a thread was free; the job was not run.
        """
        # The context carries the current span to the model's own spans and log lines.
        guarded = functools.partial(contextvars.copy_context().run, self._run, job, deadline, self._clock())
        # Cancelling the awaiting task also removes the job from the queue: the executor's future is chained to ours.
        return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)

    def close(self) -> None:
        """Drop what waits; what runs is left to the end of the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Callable[[], Result], deadline: float | None, queued_at: float) -> Result:
        now = self._clock()
        if deadline is not None and now >= deadline:
            raise DeadlineExceededError(
                f"deadline exceeded after {now - queued_at:.3f} s in the queue of model {self._name!r}; not executed"
            )
        self._observe_wait(now - queued_at)
        return job()
