"""Pulls the answers of a model that streams, one when the last one has been taken."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Generator
from typing import Final, TypeVar

from polyglot_inference.runtime.executor import ModelExecutor

Step = TypeVar("Step")

_END: Final = object()


def pulled(
    steps: Generator[Step, None, None] | AsyncGenerator[Step, None], executor: ModelExecutor, deadline: float | None
) -> AsyncGenerator[Step, None]:
    """The steps of a model: an async generator sees to where they run itself, those of a plain one run on its threads.

    A step on a thread waits in the model's queue like any call, so that streams and calls take turns. When this is
    closed or cancelled, no further step runs, and the model's generator is closed where its steps ran.

    Raises
    ------
    DeadlineExceededError
        The deadline passed before a thread was free for a step.
    """
    return steps if isinstance(steps, AsyncGenerator) else _on_threads(steps, executor, deadline)


async def _on_threads(
    steps: Generator[Step, None, None], executor: ModelExecutor, deadline: float | None
) -> AsyncGenerator[Step, None]:
    try:
        # StopIteration cannot pass through a future.
        while (found := await executor.run(functools.partial(next, steps, _END), deadline)) is not _END:
            yield found
    finally:
        # Shielded: the stream's end may cancel a second time, and that must not take the close back off the queue.
        await asyncio.shield(executor.run(steps.close, None))
