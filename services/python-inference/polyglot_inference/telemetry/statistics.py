"""What one model did since it was loaded: counts and durations, as Triton's statistics extension defines them.

Source: triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

import copy
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Self

# Entries for the answers of a stream: the first ones each have their own, those beyond share one. Without a bound one
# long stream would fill the memory.
MOST_ANSWERS: Final = 256
LATER_ANSWERS: Final = f"{MOST_ANSWERS}+"


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Count something that took `ns` for each of `times` calls."""
        self.count += times
        self.ns += ns * times


@dataclass(slots=True)
class BatchCounters:
    """The executions of one size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class Answer(Enum):
    """How one answer of a stream went."""

    SUCCESS = "success"
    FAIL = "fail"
    EMPTY = "empty_response"
    CANCELLED = "cancel"


@dataclass(slots=True)
class AnswerCounters:
    """The answers with one index, over all requests of a model that answers any number of times."""

    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty_response: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Counters:
    """All counters of a model; the names are those of Triton's message ModelStatistics."""

    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchCounters] = field(default_factory=dict)
    answers: dict[str, AnswerCounters] = field(default_factory=dict)


class ModelStatistics:
    """Told what a model does, by any thread where nothing else is said.

    Parameters
    ----------
    clock
        Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counters = Counters()

    def executed(self, rows: int, waits_ns: Sequence[int], input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count one execution of the model.

        Parameters
        ----------
        rows
            The size of the batch; 1 for a model that is not batched.
        waits_ns
            How long each of the calls in it had waited.
        input_ns, infer_ns, output_ns
            How long it took to read the tensors, to run the model and to write the answers: counted once for the
            batch and once for each call, since each had to wait that long.
        """
        calls = len(waits_ns)
        with self._lock:
            counters = self._counters
            counters.inference_count += rows
            counters.execution_count += 1
            counters.last_inference_ms = int(self._clock() * 1000)
            counters.queue.count += calls
            counters.queue.ns += sum(waits_ns)
            counters.compute_input.add(input_ns, calls)
            counters.compute_infer.add(infer_ns, calls)
            counters.compute_output.add(output_ns, calls)
            batch = counters.batches.get(rows)
            if batch is None:
                batch = counters.batches[rows] = BatchCounters()
            batch.compute_input.add(input_ns)
            batch.compute_infer.add(infer_ns)
            batch.compute_output.add(output_ns)

    def ended(self, succeeded: bool, ns: int) -> None:
        """Count one call that took `ns` in all, with its waiting; on the event loop alone, and so without the lock."""
        duration = self._counters.success if succeeded else self._counters.fail
        duration.count += 1
        duration.ns += ns

    def answered(self, index: int, answer: Answer, infer_ns: int, output_ns: int) -> None:
        """Count the answer number `index`, from 0, to one request of a stream."""
        key = str(index) if index < MOST_ANSWERS else LATER_ANSWERS
        with self._lock:
            counters = self._counters.answers.get(key)
            if counters is None:
                counters = self._counters.answers[key] = AnswerCounters()
            counters.compute_infer.add(infer_ns)
            counters.compute_output.add(output_ns)
            getattr(counters, answer.value).add(infer_ns + output_ns)

    def counters(self) -> Counters:
        """A copy of all counters, taken at one moment; on the event loop alone."""
        with self._lock:
            return copy.deepcopy(self._counters)


class StreamedCall:
    """Times the answers to one request of a model that answers any number of times; a block around all of them.

    Parameters
    ----------
    statistics
        Told each answer, how the last one went if it failed, and the execution as a whole if it did not.
    wait_ns, input_ns
        How long the request had waited, and how long it took to read its tensors.
    clock
        Nanoseconds.
    """

    def __init__(
        self,
        statistics: ModelStatistics,
        wait_ns: int,
        input_ns: int,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._statistics = statistics
        self._wait_ns = wait_ns
        self._input_ns = input_ns
        self._clock = clock
        self._answers = self._infer_ns = self._output_ns = self._computed_ns = 0
        self._mark = clock()

    def __enter__(self) -> Self:
        return self

    def computed(self) -> None:
        """The model has given an answer."""
        self._computed_ns = self._lap()
        self._infer_ns += self._computed_ns

    def written(self) -> None:
        """The answer is written as a message."""
        output_ns = self._lap()
        self._output_ns += output_ns
        self._count(Answer.SUCCESS, self._computed_ns, output_ns)

    def sent(self) -> None:
        """The caller has taken the answer: the time that it took is not the model's."""
        self._lap()

    def finished(self) -> None:
        """The end was told by an answer without outputs."""
        self._count(Answer.EMPTY, self._lap(), 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if kind is None:
            self._statistics.executed(1, [self._wait_ns], self._input_ns, self._infer_ns, self._output_ns)
        else:
            self._count(Answer.FAIL if issubclass(kind, Exception) else Answer.CANCELLED, self._lap(), 0)

    def _count(self, answer: Answer, infer_ns: int, output_ns: int) -> None:
        self._statistics.answered(self._answers, answer, infer_ns, output_ns)
        self._answers += 1

    def _lap(self) -> int:
        now = self._clock()
        lap, self._mark = now - self._mark, now
        return lap
