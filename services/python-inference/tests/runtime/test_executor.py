"""The queue in front of a model's threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from polyglot_inference.batching.queue import Batch, CallQueue
from polyglot_inference.errors import DeadlineExceededError, ModelFailedError
from polyglot_inference.runtime.executor import ModelExecutor, Tell, Work, outcome_of
from polyglot_inference.settings import QueueSettings


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made(
    threads: int = 1,
    max_rows: int = 1,
    observe: Callable[[Batch, Sequence[float]], None] = lambda _batch, _waits: None,
    clock: Callable[[], float] = time.monotonic,
) -> ModelExecutor:
    return ModelExecutor("m", threads, CallQueue("m", max_rows, 0.0, threads, QueueSettings()), observe, clock)


@dataclass(slots=True, eq=False)
class Numbered(Work):
    """Work that may share a batch."""

    number: int


def begun(
    executor: ModelExecutor, number: int, together: Callable[[Sequence[Numbered]], Sequence[object]], tell: Tell
) -> Work:
    return executor.submit(Numbered("a", 1, 1, None, together, tell, number))


async def test_a_job_runs_on_a_thread_of_the_model_within_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")
    executor = made()
    thread, seen = await executor.run(lambda: (threading.current_thread().name, variable.get()), None)
    assert thread.startswith("model-m")
    assert seen == "the caller's"
    executor.close()


async def test_at_most_concurrency_jobs_run_at_the_same_time() -> None:
    executor = made(threads=2)
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
    executor = made(clock=clock)
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
    executor = made()
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
    executor = made(observe=lambda _batch, seconds: waits.extend(seconds), clock=clock)
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
    executor = made()
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0, None)
    executor.close()


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("no more")])
async def test_what_no_future_can_carry_is_a_failure_of_the_model(error: BaseException) -> None:
    def job() -> None:
        raise error

    executor = made()
    for _ in range(2):  # the thread lives on
        with pytest.raises(ModelFailedError, match=f"model 'm' raised {type(error).__name__}"):
            await executor.run(job, None)
    executor.close()


async def test_entries_of_a_signature_share_a_batch_and_each_gets_its_own_outcome() -> None:
    executor = made(max_rows=8)
    gate, running = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def occupy() -> None:
        running.set()
        gate.wait(10)

    def together(works: Sequence[Numbered]) -> list[int | Exception]:
        numbers = [work.number for work in works]
        batches.append(numbers)
        return [ValueError(number) if number == 3 else number * 10 for number in numbers]

    first = asyncio.ensure_future(executor.run(occupy, None))
    await asyncio.to_thread(running.wait, 10)
    waiting = [
        asyncio.ensure_future(outcome_of(functools.partial(begun, executor, number, together)))
        for number in range(1, 6)
    ]
    await asyncio.sleep(0)
    waiting[3].cancel()
    await asyncio.wait((waiting[3],))
    gate.set()
    await first
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert batches == [[1, 2, 3, 5]]
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        10,
        20,
        ValueError,
        asyncio.CancelledError,
        50,
    ]
    executor.close()


async def test_a_thread_that_lingered_in_vain_runs_what_came_and_wakes_for_the_next_call() -> None:
    executor = made(max_rows=8)
    batches: list[list[int]] = []

    def together(works: Sequence[Numbered]) -> list[int]:
        numbers = [work.number for work in works]
        batches.append(numbers)
        return numbers

    async def submit(number: int) -> int:
        result: int = await outcome_of(functools.partial(begun, executor, number, together))
        return result

    for round_ in range(20):
        # The thread finds several at once, so that it waits for as many when one comes alone.
        gate = threading.Event()
        busy = asyncio.ensure_future(executor.run(functools.partial(gate.wait, 10), None))
        several = asyncio.gather(*(submit(number) for number in range(3)))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(busy, several)
        assert await asyncio.wait_for(submit(round_), 10) == round_
        assert batches[-1] == [round_]
    executor.close()


async def test_a_fault_with_one_outcome_loses_no_other() -> None:
    executor = made(max_rows=8)
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(str(fault["exception"])))
    told: list[object] = []
    all_told = asyncio.Event()

    def tell(outcome: Any) -> None:
        told.append(outcome)
        if len(told) == 3:
            all_told.set()
        if outcome == 1:
            raise RuntimeError("a fault of the edge")

    def together(works: Sequence[Numbered]) -> list[int]:
        return [work.number for work in works]

    for number in range(3):
        begun(executor, number, together, tell)
    await asyncio.wait_for(all_told.wait(), 10)
    assert told == [0, 1, 2]
    assert faults == ["a fault of the edge"]
    executor.close()


async def test_nobody_is_told_the_outcome_of_work_that_was_cancelled_while_it_ran() -> None:
    executor = made()
    gate, running = threading.Event(), threading.Event()
    told: list[object] = []

    def together(works: Sequence[Numbered]) -> list[int]:
        running.set()
        gate.wait(10)
        return [work.number for work in works]

    work = begun(executor, 1, together, told.append)
    await asyncio.to_thread(running.wait, 10)
    work.cancel()
    gate.set()
    await executor.run(lambda: None, None)  # behind it
    assert told == []
    executor.close()


async def test_closing_cancels_what_waits() -> None:
    executor = made()
    gate, running = threading.Event(), threading.Event()

    def occupy() -> None:
        running.set()
        gate.wait(10)

    first = asyncio.ensure_future(executor.run(occupy, None))
    second = asyncio.ensure_future(executor.run(lambda: None, None))
    await asyncio.to_thread(running.wait, 10)
    executor.close()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
