"""The work queue under a simulated clock: what is added is worked on, once at a time, and never lost."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from polyglot_operator.reconcile.queue import BASE_DELAY, MAX_DELAY, QueueClosed, WorkQueue

KEYS = ("a", "b", "c")


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(jitter: float = 0.0) -> tuple[WorkQueue[str], Clock]:
    clock = Clock()
    return WorkQueue(clock, lambda: jitter), clock


class QueueAgainstModel(RuleBasedStateMachine):
    """Drives the queue at random beside a model that knows which keys are owed a run, and from when."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.clock = make()
        self.owed: dict[str, float] = {}
        self.running: set[str] = set()

    def owe(self, key: str, due: float) -> None:
        self.owed[key] = min(due, self.owed.get(key, due))

    @rule(key=st.sampled_from(KEYS))
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owe(key, self.clock.now)

    @rule(key=st.sampled_from(KEYS), delay=st.floats(0.1, 100))
    def add_after(self, key: str, delay: float) -> None:
        self.queue.add_after(key, delay)
        self.owe(key, self.clock.now + delay)

    @rule(seconds=st.floats(0.1, 60))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def pop(self) -> None:
        due = {key for key, since in self.owed.items() if since <= self.clock.now and key not in self.running}
        key = self.queue.pop()
        assert (key is None) == (not due)
        if key is not None:
            assert key in due
            del self.owed[key]
            self.running.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.done(key)
        self.running.discard(key)

    @invariant()
    def holds_each_key_at_most_once(self) -> None:
        assert len(self.queue) <= len(KEYS)

    def teardown(self) -> None:
        """Whatever happened, everything that is owed is handed out in the end."""
        for key in sorted(self.running):
            self.queue.done(key)
        self.clock.now += 1000
        handed_out = list(iter(self.queue.pop, None))
        assert sorted(handed_out) == sorted(self.owed)


TestQueueAgainstModel = QueueAgainstModel.TestCase


def test_a_burst_of_events_is_one_run_for_a_key() -> None:
    queue, _ = make()
    for _ in range(100):
        queue.add("a")
    assert queue.pop() == "a"
    assert queue.pop() is None


def test_a_key_added_during_its_run_runs_again_afterwards_and_not_beside_it() -> None:
    queue, _ = make()
    queue.add("a")
    queue.pop()
    queue.add("a")
    assert queue.pop() is None
    queue.done("a")
    assert queue.pop() == "a"


def test_the_earliest_of_several_appointments_counts() -> None:
    queue, clock = make()
    queue.add_after("a", 30)
    queue.add_after("a", 5)
    queue.add_after("a", 60)
    assert queue.next_due() == 5
    clock.now = 5
    assert queue.pop() == "a"
    queue.done("a")
    clock.now = 100
    assert queue.pop() is None


@given(failures=st.integers(1, 80), jitter=st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_up_to_its_bound_whatever_the_jitter(failures: int, jitter: float) -> None:
    queue, _ = make(jitter)
    delays = [queue.retry("a") for _ in range(failures)]
    assert delays[0] == pytest.approx(BASE_DELAY * (1 + jitter / 2))
    assert all(later >= earlier for earlier, later in itertools.pairwise(delays))
    assert max(delays) <= MAX_DELAY * 1.5


def test_success_forgets_earlier_failures() -> None:
    queue, _ = make()
    first = queue.retry("a")
    queue.retry("a")
    queue.succeeded("a")
    assert queue.retry("a") == first


def test_backoff_of_one_key_does_not_delay_another() -> None:
    queue, _ = make()
    queue.retry("a")
    queue.add("b")
    assert queue.pop() == "b"


def test_waiting_time_of_a_key_is_from_its_first_addition() -> None:
    queue, clock = make()
    queue.add("a")
    clock.now = 3
    queue.add("a")
    clock.now = 4
    queue.pop()
    assert queue.waited("a") == 4


async def test_every_waiting_worker_is_released_when_the_queue_closes() -> None:
    queue, _ = make()
    workers = [asyncio.create_task(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)
    queue.close()
    for worker in workers:
        with pytest.raises(QueueClosed):
            await worker


async def test_a_waiting_worker_gets_a_key_added_later() -> None:
    queue, _ = make()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await worker == "a"
