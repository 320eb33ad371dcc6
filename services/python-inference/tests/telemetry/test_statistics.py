"""The counters of a model, and that no thread's are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from polyglot_inference.telemetry.statistics import (
    LATER_ANSWERS,
    MOST_ANSWERS,
    Answer,
    Duration,
    ModelStatistics,
    StreamedCall,
)


def test_a_batch_counts_once_for_the_model_and_once_for_each_of_its_calls() -> None:
    statistics = ModelStatistics(clock=lambda: 1.5)
    statistics.executed(rows=5, waits_ns=[10, 30], input_ns=1, infer_ns=100, output_ns=2)
    counters = statistics.counters()
    assert (counters.inference_count, counters.execution_count, counters.last_inference_ms) == (5, 1, 1500)
    assert counters.queue == Duration(2, 40)
    assert (counters.compute_input, counters.compute_infer, counters.compute_output) == (
        Duration(2, 2),
        Duration(2, 200),
        Duration(2, 4),
    )
    assert counters.batches.keys() == {5}
    assert counters.batches[5].compute_infer == Duration(1, 100)


def test_batches_are_told_apart_by_their_size() -> None:
    statistics = ModelStatistics()
    for rows in (1, 4, 4):
        statistics.executed(rows, [0], 0, rows, 0)
    assert {size: batch.compute_infer for size, batch in statistics.counters().batches.items()} == {
        1: Duration(1, 1),
        4: Duration(2, 8),
    }


def test_succeeded_and_failed_calls_are_counted_apart() -> None:
    statistics = ModelStatistics()
    statistics.ended(True, 7)
    statistics.ended(False, 11)
    statistics.ended(True, 1)
    assert (statistics.counters().success, statistics.counters().fail) == (Duration(2, 8), Duration(1, 11))


def test_answers_of_a_stream_are_told_apart_by_their_index_up_to_a_bound() -> None:
    statistics = ModelStatistics()
    statistics.answered(0, Answer.SUCCESS, infer_ns=5, output_ns=1)
    statistics.answered(1, Answer.FAIL, infer_ns=7, output_ns=0)
    for index in range(10 * MOST_ANSWERS):
        statistics.answered(index, Answer.EMPTY, infer_ns=0, output_ns=0)
    answers = statistics.counters().answers
    assert answers["0"].success == Duration(1, 6)
    assert answers["1"].fail == Duration(1, 7)
    assert answers["1"].success == Duration()
    assert len(answers) == MOST_ANSWERS + 1
    assert answers[LATER_ANSWERS].empty_response.count == 9 * MOST_ANSWERS


def test_nothing_is_lost_when_many_threads_count() -> None:
    statistics = ModelStatistics()

    def work(_: int) -> None:
        for _ in range(1000):
            statistics.executed(2, [1], 1, 1, 1)

    with ThreadPoolExecutor(8) as threads:
        running = threads.map(work, range(8))
        for _ in range(8000):  # on one thread, as the event loop is
            statistics.ended(True, 1)
            assert statistics.counters().success.count <= 8000
        list(running)
    counters = statistics.counters()
    assert (counters.inference_count, counters.execution_count) == (16_000, 8_000)
    assert (counters.success, counters.batches[2].compute_infer) == (Duration(8_000, 8_000), Duration(8_000, 8_000))


def test_a_copy_of_the_counters_does_not_change_afterwards() -> None:
    statistics = ModelStatistics()
    statistics.executed(1, [1], 1, 1, 1)
    before = statistics.counters()
    statistics.executed(1, [1], 1, 1, 1)
    assert (before.execution_count, before.batches[1].compute_infer.count) == (1, 1)


def ticks(*times: int) -> Iterator[int]:
    yield from times


def test_a_streamed_call_counts_its_answers_and_leaves_out_the_time_its_caller_takes() -> None:
    statistics = ModelStatistics()
    clock = ticks(0, 10, 11, 500, 520, 522, 900, 905)
    with StreamedCall(statistics, wait_ns=3, input_ns=4, clock=clock.__next__) as streamed:
        for _ in range(2):
            streamed.computed()
            streamed.written()
            streamed.sent()
        streamed.finished()
    counters = statistics.counters()
    assert (counters.answers["0"].compute_infer, counters.answers["0"].success) == (Duration(1, 10), Duration(1, 11))
    assert (counters.answers["1"].compute_infer, counters.answers["1"].compute_output) == (
        Duration(1, 20),
        Duration(1, 2),
    )
    assert counters.answers["2"].empty_response.count == 1
    assert (counters.execution_count, counters.inference_count, counters.queue) == (1, 1, Duration(1, 3))
    assert (counters.compute_input, counters.compute_infer, counters.compute_output) == (
        Duration(1, 4),
        Duration(1, 30),
        Duration(1, 3),
    )


@pytest.mark.parametrize(("error", "counted"), [(ValueError, "fail"), (asyncio.CancelledError, "cancel")])
def test_a_streamed_call_that_breaks_off_counts_the_answer_that_did_not_come(
    error: type[BaseException], counted: str
) -> None:
    statistics = ModelStatistics()

    def broken_off() -> None:
        with StreamedCall(statistics, wait_ns=0, input_ns=0) as streamed:
            streamed.computed()
            streamed.written()
            raise error

    with pytest.raises(error):
        broken_off()
    counters = statistics.counters()
    assert counters.execution_count == 0
    assert getattr(counters.answers["1"], counted).count == 1
