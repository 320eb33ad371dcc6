"""A loaded model as callers meet it: its name, its queue and threads, and what it did."""

import time
from dataclasses import dataclass, field
from typing import Final, Self

from opentelemetry.context import Context

from polyglot_inference.batching.execution import Execution, Member
from polyglot_inference.batching.queue import CallQueue
from polyglot_inference.errors import ModelLoadError
from polyglot_inference.lifecycle import InFlight
from polyglot_inference.protocol.form import Forms
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.runtime.executor import ModelExecutor, Tell, Work
from polyglot_inference.runtime.model import Model
from polyglot_inference.settings import ModelSettings, QueueSettings
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.statistics import ModelStatistics
from polyglot_inference.telemetry.traces import Tracing
from polyglot_inference.tensors import DYNAMIC

VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model under the name callers use, the threads it runs on, and what it did.

    `max_batch_size` is the most rows of one execution, 0 for a model that is never batched. `in_flight` counts its
    calls: whoever calls it tracks the call there, so that an unloaded model goes when its last call is answered.
    """

    name: str
    settings: ModelSettings
    model: Model
    forms: Forms
    executor: ModelExecutor
    execution: Execution
    statistics: ModelStatistics
    max_batch_size: int
    in_flight: InFlight = field(default_factory=InFlight)

    @classmethod
    def of(
        cls, settings: ModelSettings, model: Model, limits: QueueSettings, metrics: Metrics, tracing: Tracing
    ) -> Self:
        """Put a queue and threads before a model."""
        name, batching, statistics = settings.name, settings.batching, ModelStatistics()
        # A batched model runs one batch at a time: what comes in meanwhile makes the next one larger.
        threads = 1 if batching else model.concurrency
        max_rows, max_delay = (batching.max_size, batching.max_delay.total_seconds()) if batching else (1, 0.0)
        queue = CallQueue(name, max_rows, max_delay, threads, limits)
        executor = ModelExecutor(name, threads, queue, metrics.observe_batches(name))
        execution = Execution(name, VERSION, model, statistics=statistics, metrics=metrics, tracing=tracing)
        return cls(name, settings, model, Forms(model), executor, execution, statistics, max_rows if batching else 0)

    def start(self, inference: Inference, size: int, deadline: float | None, trace: Context, tell: Tell) -> Work:
        """Answer one request of so many bytes, perhaps together with others; `trace` is the context with its span.

        `tell` gets the answer's bytes, or an InferenceError: it waited beyond its deadline, or the model failed.

        Raises
        ------
        InferenceError
            The request cannot be batched, or too much waits already.
        """
        signature, rows = None, 1
        if self.max_batch_size:
            form = inference.form
            form.require_equal_rows()
            signature, rows = form.signature, form.rows
        member = Member(signature, rows, size, deadline, self.execution, tell, inference, trace, time.perf_counter_ns())
        return self.executor.submit(member)


def require_batchable(name: str, model: Model) -> None:
    """Refuse to batch a model that cannot take several calls at once.

    Raises
    ------
    ModelLoadError
        It asks for the request, or a tensor has no dimension for rows.
    """
    if model.wants_request:
        raise ModelLoadError(
            f"model {name!r} cannot be batched: its predict takes the request, of which a batch has several; leave"
            " batching out of its settings"
        )
    for role, specs in (("input", model.inputs), ("output", model.outputs)):
        for spec in specs:
            if not spec.shape or spec.shape[0] != DYNAMIC:
                raise ModelLoadError(
                    f"model {name!r} cannot be batched: {role} {spec.name!r} has shape {list(spec.shape)}, whose first"
                    " dimension must be -1, the rows of a batch; leave batching out of its settings"
                )
