"""Which calls are taken together and when, on a clock that the test turns."""

from __future__ import annotations

import math

import pytest

from polyglot_inference.batching.queue import (
    LINGER_SHARE,
    LONGEST_ARRIVALS,
    SHORTEST_LINGER,
    Batch,
    CallQueue,
    Entry,
    Reason,
    Wait,
)
from polyglot_inference.errors import QueueFullError
from polyglot_inference.settings import QueueSettings

LIMITS = QueueSettings()


def queue(max_rows: int = 4, max_delay: float = 0.0, threads: int = 1, limits: QueueSettings = LIMITS) -> CallQueue:
    return CallQueue("m", max_rows, max_delay, threads, limits)


def entry(rows: int = 1, signature: str | None = "a", deadline: float | None = None, size: int = 100) -> Entry:
    return Entry(signature, rows, size, deadline)


def add(calls: CallQueue, *entries: Entry, now: float = 0.0) -> None:
    for one in entries:
        calls.add(one, now)


def taken(calls: CallQueue, now: float = 0.0) -> Batch:
    turn = calls.take(now)
    assert isinstance(turn, Batch)
    return turn


def ran(calls: CallQueue, batch: Batch, started: float, seconds: float) -> float:
    calls.finished(batch, started, started + seconds)
    return started + seconds


def test_a_call_that_finds_the_model_idle_is_taken_at_once() -> None:
    calls = queue()
    only = entry()
    add(calls, only)
    assert taken(calls) == Batch([only], Reason.IDLE, [], 1)
    assert calls.take(0.0) == Wait(None, 1)


def test_calls_of_one_signature_are_taken_together_up_to_the_rows_of_a_batch() -> None:
    calls = queue(max_rows=4)
    first, other, second, third, fourth = entry(2), entry(1, "b"), entry(1), entry(2), entry(1)
    add(calls, first, other, second, third, fourth)
    # In order of arrival: the fourth would fit beside the second, but must not overtake the third.
    assert taken(calls) == Batch([first, second], Reason.FULL, [], 3)
    assert taken(calls) == Batch([other], Reason.IDLE, [], 1)
    assert taken(calls).entries == [third, fourth]


def test_a_call_larger_than_a_batch_passes_alone() -> None:
    calls = queue(max_rows=4)
    large, small = entry(9), entry(1)
    add(calls, large, small)
    assert taken(calls) == Batch([large], Reason.FULL, [], 9)
    assert taken(calls).entries == [small]


def test_calls_without_a_signature_run_alone() -> None:
    calls = queue(max_rows=4)
    first, second = entry(1, None), entry(1, None)
    add(calls, first, second)
    assert taken(calls) == Batch([first], Reason.ALONE, [], 1)
    assert taken(calls) == Batch([second], Reason.ALONE, [], 1)


def test_an_expired_call_is_told_apart_and_not_run() -> None:
    calls = queue()
    late, timely = entry(deadline=1.0), entry(deadline=3.0)
    add(calls, late, timely)
    assert taken(calls, now=1.0) == Batch([timely], Reason.IDLE, [late], 1)


def test_after_a_batch_of_several_a_thread_lingers_until_as_many_are_there() -> None:
    calls = queue(max_rows=8)
    add(calls, entry(), entry(), entry())
    now = ran(calls, taken(calls), 0.0, 0.1)
    back, again, more = entry(), entry(), entry()
    add(calls, back, now=now)
    wait = calls.take(now)
    assert isinstance(wait, Wait)
    assert wait.until == pytest.approx(now + LINGER_SHARE * 0.1)
    add(calls, *(entry() for _ in range(wait.rows - 3)), again, more, now=now)
    batch = taken(calls, now)
    assert (len(batch.entries), batch.reason) == (wait.rows, Reason.COMPLETE)


def test_a_linger_ends_with_what_is_there() -> None:
    calls = queue(max_rows=8)
    add(calls, entry(), entry(), entry())
    now = ran(calls, taken(calls), 0.0, 0.1)
    back = entry()
    add(calls, back, now=now)
    assert taken(calls, now + LINGER_SHARE * 0.1) == Batch([back], Reason.LINGER, [], 1)


def linger(calls: CallQueue, gap: float, seconds: float, callers: int = 20) -> float:
    """How long a thread lingers for callers that come `gap` seconds after each other, when a batch takes `seconds`."""
    now = 0.0
    for _ in range(20):
        for _ in range(callers):
            now += gap
            add(calls, entry(), now=now)
        now = ran(calls, taken(calls, now + 1), now, seconds)
    now += gap
    add(calls, entry(), now=now)
    wait = calls.take(now)
    assert isinstance(wait, Wait)
    assert wait.until is not None
    return wait.until - now


def test_a_quick_model_lingers_as_long_as_its_calls_take_to_come() -> None:
    seconds = linger(queue(max_rows=64), 0.0001, 0.0002)
    assert 20 * 0.0001 < seconds < 2 * 30 * 0.0001  # 20 or 30 are waited for
    assert linger(queue(max_rows=64), 0.0004, 0.0002) == pytest.approx(LONGEST_ARRIVALS)
    assert linger(queue(max_rows=64, max_delay=0.002), 0.0004, 0.0002) == pytest.approx(0.002)


def test_a_model_that_is_no_quicker_than_its_calls_come_does_not_linger_for_them() -> None:
    assert linger(queue(max_rows=64), 0.0001, 0.002) == pytest.approx(SHORTEST_LINGER)
    assert linger(queue(max_rows=64), 0.0001, 0.02) == pytest.approx(LINGER_SHARE * 0.02)


def test_calls_that_come_now_and_then_are_not_lingered_for() -> None:
    assert linger(queue(max_rows=64), 0.002, 0.0002) == pytest.approx(SHORTEST_LINGER)


def test_max_delay_bounds_the_linger() -> None:
    calls = queue(max_rows=8, max_delay=0.0005)
    add(calls, entry(), entry(), entry())
    now = ran(calls, taken(calls), 0.0, 0.1)
    add(calls, entry(), now=now)
    wait = calls.take(now)
    assert isinstance(wait, Wait)
    assert wait.until == pytest.approx(now + 0.0005)


def test_a_thread_does_not_linger_past_what_a_deadline_leaves_for_the_run() -> None:
    calls = queue(max_rows=8)
    add(calls, entry(), entry(), entry())
    now = ran(calls, taken(calls), 0.0, 0.1)
    add(calls, entry(), entry(deadline=now + 0.105), now=now)
    wait = calls.take(now)
    assert isinstance(wait, Wait)
    assert wait.until == pytest.approx(now + 0.005)


def test_a_caller_that_is_alone_never_waits() -> None:
    calls = queue()
    now = 0.0
    for _ in range(5):
        add(calls, entry(3), now=now)
        now = ran(calls, taken(calls, now), now, 0.1)


def test_a_call_long_after_a_batch_of_several_does_not_wait() -> None:
    calls = queue(max_rows=8)
    add(calls, entry(), entry(), entry())
    now = ran(calls, taken(calls), 0.0, 0.1) + 60
    add(calls, entry(), now=now)
    assert taken(calls, now).reason is Reason.IDLE


def test_waiting_in_vain_becomes_rare() -> None:
    """Two callers that come back together are not made to wait for a third every time."""
    calls = queue(max_rows=8)
    now, lingers = 0.0, 0
    for _ in range(500):
        add(calls, entry(), entry(), now=now)
        turn = calls.take(now)
        if isinstance(turn, Wait):
            assert turn.until is not None
            lingers += 1
            now = turn.until
            turn = taken(calls, now)
        now = ran(calls, turn, now, 0.0001)
    assert lingers < 20


def test_waiting_for_more_finds_all_callers_of_a_quick_model() -> None:
    """Callers that the event loop hands over one by one gather to one batch, though none waits when it begins."""
    calls = queue(max_rows=64)
    callers, every = 32, 0.00003
    arrivals = [number * every for number in range(callers)]
    sizes: list[int] = []
    now = 0.0
    while len(sizes) < 400:
        while arrivals and arrivals[0] <= now:
            calls.add(entry(), arrivals.pop(0))
        turn = calls.take(now)
        if isinstance(turn, Wait):
            coming = arrivals[0] if arrivals else math.inf
            now = min(coming, math.inf if turn.until is None else turn.until)
            continue
        sizes.append(len(turn.entries))
        now = ran(calls, turn, now, 0.00005)
        arrivals += [max(now, arrivals[-1] if arrivals else 0.0) + (place + 1) * every for place in range(sizes[-1])]
    assert sum(sizes[-100:]) / 100 > callers / 2


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (
            {"maxSize": 4},
            "model 'm' is overloaded: 3 rows wait for it, and this call's 3 would exceed queue.maxSize = 4; try again",
        ),
        ({"maxBytes": 1024}, "300 bytes wait for it, and this call's 900 would exceed queue.maxBytes = 1024"),
    ],
)
def test_what_does_not_fit_in_the_queue_is_refused_with_the_expected_wait(
    limits: dict[str, int], complaint: str
) -> None:
    calls = queue(max_rows=2, limits=QueueSettings.model_validate(limits))
    add(calls, entry())
    ran(calls, taken(calls), 0.0, 1.5)
    add(calls, entry(), entry(), entry(), now=1.5)
    with pytest.raises(QueueFullError) as caught:
        calls.add(entry(3, size=900), 1.5)
    assert complaint in caught.value.message
    # Two batches of 1.5 s are before it.
    assert dict(caught.value.trailers) == {"retry-after": "3", "grpc-retry-pushback-ms": "3000"}
    assert len(calls) == 3


def test_a_single_call_is_taken_whatever_its_size() -> None:
    calls = queue(limits=QueueSettings.model_validate({"maxSize": 1, "maxBytes": 1024}))
    add(calls, entry(rows=100, size=10**9))
    assert taken(calls).rows == 100
