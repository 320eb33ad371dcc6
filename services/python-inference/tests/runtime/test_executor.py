"""The queue in front of a model's threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from polyglot_inference.errors import DeadlineExceededError
from polyglot_inference.runtime.executor import ModelExecutor


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_job_runs_on_a_thread_of_the_model_within_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")
    executor = ModelExecutor("m", 1, lambda _: None)
    thread, seen = await executor.run(lambda: (threading.current_thread().name, variable.get()), None)
    assert thread.startswith("model-m")
    assert seen == "the caller's"
    executor.close()


async def test_at_most_concurrency_jobs_run_at_the_same_time() -> None:
    executor = ModelExecutor("m", 2, lambda _: None)
    both_run = threading.Barrier(2)
    await asyncio.gather(*(executor.run(lambda: both_run.wait(10), None) for _ in range(2)))
    running = 0
    most = 0
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    await asyncio.gather(*(executor.run(job, None) for _ in range(200)))
    assert most <= 2
    executor.close()


async def test_a_job_past_its_deadline_in_the_queue_is_not_run() -> None:
    clock = Clock()
    executor = ModelExecutor("m", 1, lambda _: None, clock)
    gate = threading.Event()
    ran: list[str] = []
    first = asyncio.ensure_future(executor.run(lambda: gate.wait(10), None))
    late = asyncio.ensure_future(executor.run(lambda: ran.append("late"), clock.now + 1))
    timely = asyncio.ensure_future(executor.run(lambda: ran.append("timely"), clock.now + 3))
    await asyncio.sleep(0)
    clock.now += 2
    gate.set()
    await first
    with pytest.raises(DeadlineExceededError, match=r"after 2\.000 s in the queue of model 'm'; not executed"):
        await late
    await timely
    assert ran == ["timely"]
    executor.close()


async def test_a_job_cancelled_in_the_queue_is_not_run() -> None:
    executor = ModelExecutor("m", 1, lambda _: None)
    gate = threading.Event()
    ran: list[str] = []
    first = asyncio.ensure_future(executor.run(lambda: gate.wait(10), None))
    cancelled = asyncio.ensure_future(executor.run(lambda: ran.append("cancelled"), None))
    last = asyncio.ensure_future(executor.run(lambda: ran.append("last"), None))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    gate.set()
    await asyncio.gather(first, last)
    assert ran == ["last"]
    executor.close()


async def test_the_wait_of_every_run_job_is_observed() -> None:
    clock = Clock()
    waits: list[float] = []
    executor = ModelExecutor("m", 1, waits.append, clock)
    gate, running = threading.Event(), threading.Event()

    def occupy() -> None:
        running.set()
        gate.wait(10)

    first = asyncio.ensure_future(executor.run(occupy, None))
    second = asyncio.ensure_future(executor.run(lambda: None, None))
    await asyncio.to_thread(running.wait, 10)
    clock.now += 5
    gate.set()
    await asyncio.gather(first, second)
    assert waits == [0, 5]
    executor.close()


async def test_an_error_of_the_job_reaches_the_caller() -> None:
    executor = ModelExecutor("m", 1, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0, None)
    executor.close()
