"""How the operator is seen: metrics, reconcile spans and JSON logs.

Metrics carry the names of controller-runtime wherever one fits, so that dashboards made for Go operators work.
Source: https://book.kubebuilder.io/reference/metrics-reference
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from polyglot_operator.api.groups import GROUP

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

CONTROLLER: Final = "polyglotservice"
SERVICE_NAME: Final = "polyglot-operator"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Every metric of the operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by result: success, requeue_after, error",
            ["controller", "result"],
            registry=self.registry,
        )
        self._reconcile_time = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a reconcile",
            ["controller"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._active = Gauge(
            "controller_runtime_active_workers",
            "Workers that are reconciling now",
            ["controller"],
            registry=self.registry,
        )
        self._depth = Gauge("workqueue_depth", "Services ready to be reconciled", ["name"], registry=self.registry)
        self._waiting = Histogram(
            "workqueue_queue_duration_seconds",
            "How long a service waited for a worker",
            ["name"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._retries = Counter(
            "workqueue_retries", "Reconciles put back after a failure", ["name"], registry=self.registry
        )
        self._requests = Counter(
            "rest_client_requests",
            "Requests to the API server by method and status code; `error` without an answer",
            ["method", "code"],
            registry=self.registry,
        )
        self._request_time = Histogram(
            "rest_client_request_duration_seconds",
            "Duration of requests to the API server, waiting for a slot included",
            ["verb"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._applies = Counter(
            "polyglot_apply",
            "Steps taken on children by kind and result: created, configured, unchanged, deleted, waiting, conflict, "
            "failed",
            ["kind", "result"],
            registry=self.registry,
        )
        self._status_writes = Counter("polyglot_status_writes", "Status patches of services", registry=self.registry)
        self._services = Gauge(
            "polyglot_services", "Services by the status of their condition Ready", ["ready"], registry=self.registry
        )
        self._watch_age = Gauge(
            "polyglot_watch_age_seconds", "Seconds since a watch last delivered anything",
            ["path"], registry=self.registry,
        )  # fmt: skip

    @contextmanager
    def reconciling(self, waited: float) -> Iterator[None]:
        """Time one reconcile of a service that waited for `waited` seconds."""
        self._waiting.labels(CONTROLLER).observe(waited)
        with self._active.labels(CONTROLLER).track_inprogress(), self._reconcile_time.labels(CONTROLLER).time():
            yield

    def reconciled(self, result: str) -> None:
        """Count a reconcile by its result."""
        self._reconciles.labels(CONTROLLER, result).inc()
        if result == "error":
            self._retries.labels(CONTROLLER).inc()

    def depth(self, ready: int) -> None:
        """Note how many services are ready to be reconciled."""
        self._depth.labels(CONTROLLER).set(ready)

    def requested(self, method: str, code: str, seconds: float) -> None:
        """Count and time a request to the API server."""
        self._requests.labels(method.upper(), code).inc()
        self._request_time.labels(method.upper()).observe(seconds)

    def applied(self, kind: str, result: str) -> None:
        """Count a step on a child."""
        self._applies.labels(kind, result).inc()

    def status_written(self) -> None:
        """Count a status patch."""
        self._status_writes.inc()

    def services(self, by_readiness: Mapping[str, int]) -> None:
        """Note how many services have Ready at True, False and Unknown."""
        for ready in ("True", "False", "Unknown"):
            self._services.labels(ready).set(by_readiness.get(ready, 0))

    def watches(self, ages: Mapping[str, float]) -> None:
        """Note the age of every watch's last sign of life."""
        self._watch_age.clear()
        for path, age in ages.items():
            self._watch_age.labels(path).set(age)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)


def tracer(environment: Mapping[str, str] = os.environ) -> trace.Tracer:
    """Return the tracer of reconciles: it exports by OTLP where `OTEL_EXPORTER_OTLP_ENDPOINT` says, else nothing."""
    exporter = _exporter(environment)
    if exporter is None:
        return trace.NoOpTracerProvider().get_tracer(SERVICE_NAME)
    provider = TracerProvider(
        resource=Resource.create({"service.name": environment.get("OTEL_SERVICE_NAME", SERVICE_NAME)})
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer(SERVICE_NAME)


def _exporter(environment: Mapping[str, str]) -> SpanExporter | None:
    """Choose the exporter by the standard variables; it is imported late, for it costs 30 MB."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    if off or not any(environment.get(name) for name in endpoints):
        return None
    if environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").startswith("http"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter  # noqa: PLC0415

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter  # noqa: PLC0415

    return GrpcExporter()


# The attributes every record has; what is beyond them was given with `extra=`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Kopf attaches its own view of the object to every record.
_KOPF: Final = frozenset({"settings", "k8s_skip", "k8s_ref"})


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, `extra` fields, trace and span id, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD | _KOPF)
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = trace.format_trace_id(span.trace_id)
            line["span_id"] = trace.format_span_id(span.span_id)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _is_news(record: logging.LogRecord) -> bool:
    """Pass over Kopf's warning, with every change of any CRD, that Istio's kinds are not served: they are optional."""
    message = record.getMessage()
    return GROUP in message or not message.startswith("Unresolved resources cannot be served")


def configure_logging(level: str, stream: TextIO = sys.stdout) -> None:
    """Send every record of the process at `level` or above to `stream`; the libraries' chatter from WARNING on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_news)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(chatty).setLevel("WARNING" if level != "DEBUG" else "DEBUG")
