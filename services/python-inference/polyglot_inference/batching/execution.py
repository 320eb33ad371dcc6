"""Runs a model once for the calls of a batch: their rows stacked, the results told apart again."""

import contextvars
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from opentelemetry.context import Context, attach

from polyglot_inference.errors import InferenceError, ModelFailedError
from polyglot_inference.protocol.inference import Inference, responses, stacked
from polyglot_inference.runtime.executor import Work
from polyglot_inference.runtime.model import NO_REQUEST, Model
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.statistics import ModelStatistics
from polyglot_inference.telemetry.traces import Tracing
from polyglot_inference.tensors import Array

Outcome = bytes | Exception

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Member(Work):
    """One call of a batch.

    Parameters
    ----------
    inference
        The request.
    trace
        The context with its span, in which the model runs where it runs for this call alone.
    came_at
        When it began to wait, in nanoseconds of the performance counter.
    """

    inference: Inference
    trace: Context
    came_at: int


class Execution:
    """The executions of one model.

    Parameters
    ----------
    name, version
        As callers know the model.
    model
        The model.
    statistics, metrics, tracing
        Told every execution.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Model,
        *,
        statistics: ModelStatistics,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._name = name
        self._version = version
        self._model = model
        self._statistics = statistics
        self._tracing = tracing
        self._seconds = metrics.execute_seconds.labels(name)
        self._rows = metrics.batch_rows.labels(name)

    def __call__(self, members: Sequence[Member]) -> Sequence[Outcome]:
        """Answer every member: the failure of one is its own.

        A model that fails on several is run for each of them once, so that only those at fault fail.
        """
        begun = time.perf_counter_ns()
        if len(members) == 1:
            return [self._singly(members[0], begun)]
        tensors = stacked([member.inference for member in members])
        if tensors is None:
            return self._readable(members, begun)
        return self._all(members, tensors, begun)

    def _readable(self, members: Sequence[Member], begun: int) -> Sequence[Outcome]:
        """Read the tensors of each member by itself, and answer those that could be read."""
        faults: dict[Member, Outcome] = {}
        inputs: dict[Member, Mapping[str, Array]] = {}
        for member in members:
            try:
                inputs[member] = member.inference.tensors()
            except InferenceError as error:
                faults[member] = error
        answers = iter(self._all(list(inputs), _concatenated(list(inputs.values())), begun) if inputs else ())
        return [faults[member] if member in faults else next(answers) for member in members]

    def _all(self, members: Sequence[Member], tensors: Mapping[str, Array], begun: int) -> Sequence[Outcome]:
        try:
            return self._together(members, tensors, begun)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            _log.warning(
                "Running the calls of a failed batch singly",
                extra={"model": self._name, "calls": len(members), "reason": str(error)},
            )
            return [self._singly(member, time.perf_counter_ns()) for member in members]

    def _singly(self, member: Member, begun: int) -> Outcome:
        try:
            return contextvars.copy_context().run(self._alone, member, begun)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            return error

    def _alone(self, member: Member, begun: int) -> bytes:
        attach(member.trace)
        inference = member.inference
        inputs = inference.tensors()
        request = inference.described() if self._model.wants_request else NO_REQUEST
        read = time.perf_counter_ns()
        with self._tracing.execute_span(self._name, member.trace):
            results = self._model.predict(inputs, inference.form.output_names, request)
        ran = time.perf_counter_ns()
        response = inference.response(results, self._version)
        self._record([member], inference.form.rows, begun, read, ran)
        return response

    def _together(self, members: Sequence[Member], tensors: Mapping[str, Array], begun: int) -> Sequence[Outcome]:
        names = members[0].inference.form.output_names
        rows = sum([member.rows for member in members])
        read = time.perf_counter_ns()
        with self._tracing.batch_span(self._name, [member.trace for member in members], rows):
            results = self._model.predict(tensors, names, NO_REQUEST)
        ran = time.perf_counter_ns()
        self._require_rows(results, names, rows)
        answers = responses([member.inference for member in members], results, self._version)
        self._record(members, rows, begun, read, ran)
        return answers

    def _record(self, members: Sequence[Member], rows: int, begun: int, read: int, ran: int) -> None:
        written = time.perf_counter_ns()
        self._seconds.observe((ran - read) / 1e9)
        self._rows.observe(rows)
        waits = [begun - member.came_at for member in members]
        counted = sum(member.rows for member in members)
        self._statistics.executed(counted, waits, read - begun, ran - read, written - ran)

    def _require_rows(self, results: Mapping[str, Array], names: Sequence[str], rows: int) -> None:
        for name in names:
            if results[name].shape[:1] != (rows,):
                raise ModelFailedError(
                    f"model {self._name!r} returned output {name!r} with shape {list(results[name].shape)} for {rows}"
                    " rows; a model that is batched answers each row with one"
                )


def _concatenated(inputs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    stacked = {name: np.concatenate([tensors[name] for tensors in inputs]) for name in inputs[0]}
    for tensor in stacked.values():
        tensor.flags.writeable = False  # as a call that runs alone finds it
    return stacked
