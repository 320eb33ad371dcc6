"""Prometheus metrics of the process; docs/reference/metrics.md lists them, from the texts here."""

from collections.abc import Callable, Sequence
from wsgiref.simple_server import WSGIServer

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from polyglot_inference.batching.queue import Batch, Reason
from polyglot_inference.errors import OK
from polyglot_inference.lifecycle import InFlight, State
from polyglot_inference.telemetry.counter import Count, LoopCounter
from polyglot_inference.telemetry.histogram import Histogram, Observations

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """All series, in a registry of their own."""

    def __init__(self, in_flight: InFlight) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        # By labels, which take longer to look up than to count.
        self._answers: dict[str, tuple[Count, Observations]] = {}
        self._succeeded: dict[str, tuple[Count, Observations]] = {}
        self.requests = LoopCounter(
            "polyglot_inference_requests",
            "Inference requests, of calls and of streams, by model and gRPC status; model is empty where the caller"
            " named none that is served.",
            ["model", "code"],
            self.registry,
        )
        self.request_seconds = self._histogram(
            "request_duration", "Inference requests from the request read to the last answer written."
        )
        self.queue_seconds = self._histogram("queue_duration", "Time a call waited for its model.")
        self.execute_seconds = self._histogram("execute_duration", "Time a model ran.")
        self.batch_rows = Histogram(
            "polyglot_inference_batch_rows",
            "Rows per model execution: the first dimension where the model declares it variable, else 1.",
            "model",
            _ROWS,
            self.registry,
        )
        self.batch_calls = Histogram(
            "polyglot_inference_batch_calls",
            "Calls per model execution.",
            "model",
            _ROWS,
            self.registry,
        )
        self.batches = Counter(
            "polyglot_inference_batches",
            "Model executions by what bounded them: alone (the call runs by itself), full, idle (nothing else waited),"
            " complete (as many rows as last time) or linger (the wait for as many was over).",
            ["model", "reason"],
            registry=self.registry,
        )
        Gauge(
            "polyglot_inference_requests_in_flight",
            "Inference requests being served, of calls and of streams.",
            registry=self.registry,
        ).set_function(lambda: in_flight.count)
        self.streams = Gauge("polyglot_inference_streams", "Open ModelStreamInfer streams.", registry=self.registry)
        self.lanes = Gauge(
            "polyglot_inference_lanes",
            "Open lanes: streams in which gateways make calls, which are counted as any others.",
            registry=self.registry,
        )
        self.stream_answers = LoopCounter(
            "polyglot_inference_stream_answers",
            "Answers written to streams; model is empty when the caller named none that is served.",
            ["model"],
            self.registry,
        )
        self.first_answer_seconds = self._histogram(
            "first_answer", "Requests of streams from the request read to the first of its answers written."
        )
        self.shared_memory_regions = Gauge(
            "polyglot_inference_shared_memory_regions", "Registered shared memory regions.", registry=self.registry
        )
        self.model_loads = Counter(
            "polyglot_inference_model_loads",
            "Loads of models, at start and by callers, by outcome: loaded or failed.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.model_ready = Gauge(
            "polyglot_inference_model_ready",
            "1 while the model can be called, else 0.",
            ["model"],
            registry=self.registry,
        )
        self.model_load_seconds = Gauge(
            "polyglot_inference_model_load_seconds", "Time the model took to load.", ["model"], registry=self.registry
        )
        self.model_load_progress = Gauge(
            "polyglot_inference_model_load_progress_ratio",
            "Share of the model's loading that is done, 0 to 1; between the two only where its `load` tells.",
            ["model"],
            registry=self.registry,
        )
        self.state = Gauge(
            "polyglot_inference_state",
            "1 for the state the process is in, else 0: Starting, Ready or Draining.",
            ["state"],
            registry=self.registry,
        )

    def _histogram(self, name: str, documentation: str) -> Histogram:
        return Histogram(f"polyglot_inference_{name}_seconds", documentation, "model", _SECONDS, self.registry)

    def record_request(self, model: str, status: grpc.StatusCode, seconds: float) -> None:
        """Count one inference request; on the event loop alone."""
        bound = self._succeeded.get(model) if status is OK else None
        if bound is None:
            bound = self.requests.labels(model, status.name), self.request_seconds.labels(model)
            if status is OK:  # the others are few
                self._succeeded[model] = bound
        ended, duration = bound
        ended.inc()
        duration.observe(seconds)

    def record_answer(self, model: str, first_seconds: float | None) -> None:
        """Count one answer to a request of a stream, and what it took if it is the first; on the event loop alone."""
        bound = self._answers.get(model)
        if bound is None:
            bound = self.stream_answers.labels(model), self.first_answer_seconds.labels(model)
            self._answers[model] = bound
        answers, duration = bound
        answers.inc()
        if first_seconds is not None:
            duration.observe(first_seconds)

    def observe_batches(self, model: str) -> Callable[[Batch, Sequence[float]], None]:
        """An observer of one model's batches and of how long each call of them waited."""
        queue_seconds = self.queue_seconds.labels(model)
        calls = self.batch_calls.labels(model)
        reasons = {reason: self.batches.labels(model, reason.value) for reason in Reason}

        def observe(batch: Batch, waits: Sequence[float]) -> None:
            calls.observe(len(batch.entries))
            reasons[batch.reason].inc()
            queue_seconds.observe_all(waits)

        return observe

    async def observe_state(self, state: State) -> None:
        """Follow the lifecycle."""
        for candidate in State:
            self.state.labels(candidate.value).set(candidate is state)


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Serve /metrics on a thread of its own; the server's `server_port` is the bound port, `shutdown()` ends it."""
    server, _ = start_http_server(port, host, registry=registry)
    return server
