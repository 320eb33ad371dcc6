"""OpenTelemetry traces, configured by the standard OTEL_* variables.

Traces are exported when an OTLP endpoint is set and OTEL_TRACES_EXPORTER is not "none"; sampler, resource and
batching follow OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME and OTEL_BSP_*. Without an exporter
no span is recorded, but the caller's trace id still reaches logs and errors. Spans are made here and not by
opentelemetry-instrumentation-grpc: that package is a beta which also traces every health probe and puts a proxy
object around each call's context. Source:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from polyglot_inference.settings import SettingsError
from polyglot_inference.telemetry.sampling import MODEL, CallSampler, TraceSettings

# gRPC statuses that are the server's fault. Source: OpenTelemetry semantic conventions for gRPC, "Server" spans.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def exporter_from_environment(environment: Mapping[str, str]) -> SpanExporter | None:
    """The OTLP exporter that the environment asks for, or None when traces are off.

    Raises
    ------
    SettingsError
        The environment asks for an exporter or protocol that is not built in.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp")
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if exporter == "none" or not endpoint or disabled:
        return None
    if exporter != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER: {exporter!r} is not supported; use otlp or none")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    if protocol != "grpc":
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not supported; use grpc")
    return OTLPSpanExporter()


class Tracing:
    """Makes the spans of the process.

    Parameters
    ----------
    exporter
        Where finished spans go; None turns recording off.
    sampler
        Which calls are recorded; by default those whose callers record them, and all that bring no trace.
    """

    def __init__(self, exporter: SpanExporter | None, sampler: CallSampler | None = None) -> None:
        self.sampler = sampler or CallSampler(TraceSettings(on=True, share=1.0))
        self._provider = TracerProvider(self.sampler) if exporter else None
        if self._provider and exporter:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: trace.Tracer = (self._provider or trace.NoOpTracerProvider()).get_tracer("polyglot_inference")

    @property
    def exports(self) -> bool:
        """Whether recorded spans go anywhere."""
        return self._provider is not None

    @contextmanager
    def server_span(
        self, service: str, method: str, parent: otel_context.Context, model: str = ""
    ) -> Iterator[trace.Span]:
        """The span of one call, current within the block, a child of the span in the caller's context.

        `model` is needed only where the sampler knows models.
        """
        span = self._server_span(service, method, parent, model)
        token = otel_context.attach(trace.set_span_in_context(span, parent))
        try:
            yield span
        finally:
            otel_context.detach(token)
            span.end()

    def enter_server_span(self, service: str, method: str, parent: otel_context.Context, model: str = "") -> trace.Span:
        """The same for a call that has a context of its own: current there from now on; whoever calls this ends it."""
        span = self._server_span(service, method, parent, model)
        otel_context.attach(trace.set_span_in_context(span, parent))
        return span

    def _server_span(self, service: str, method: str, parent: otel_context.Context, model: str) -> trace.Span:
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if model:
            attributes[MODEL] = model
        return self._tracer.start_span(
            f"{service}/{method}",
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        )

    @contextmanager
    def execute_span(self, model: str) -> Iterator[trace.Span]:
        """The span of one model execution, a child of the current one; none where that is not sampled."""
        call = trace.get_current_span()
        if not call.is_recording():  # a span that nobody sees costs as much as a quick model
            yield call
            return
        with self._tracer.start_as_current_span("execute", attributes={MODEL: model}) as span:
            yield span

    @contextmanager
    def batch_span(self, model: str, calls: Sequence[trace.Span], rows: int) -> Iterator[None]:
        """The span of one model execution for several calls.

        It is a child of the first that is sampled, linked with all that are; without one there is none.
        """
        sampled = [call for call in calls if call.is_recording()]
        if not sampled:
            yield
            return
        with self._tracer.start_as_current_span(
            "execute",
            context=trace.set_span_in_context(sampled[0]),
            attributes={
                "polyglot.model.name": model,
                "polyglot.batch.rows": rows,
                "polyglot.batch.calls": len(calls),
            },
            links=[trace.Link(call.get_span_context()) for call in sampled],
        ) as span:
            # The other way round as well, for those who start from a call in another trace.
            for call in sampled[1:]:
                call.add_link(span.get_span_context())
            yield

    def close(self, timeout_seconds: float) -> bool:
        """Export what is buffered, at most this long; returns whether all of it is out.

        A collector that does not answer would hold the process for the exporter's own timeout, 10 s by default, when
        the pod's grace period may be over.
        """
        if self._provider is None:
            return True
        flush = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        flush.start()
        flush.join(timeout_seconds)
        return not flush.is_alive()


def caller_context(metadata: Mapping[str, str]) -> otel_context.Context:
    """The caller's trace context and baggage, from a call's metadata."""
    return propagate.extract(metadata)


def record_status(span: trace.Span, status: grpc.StatusCode, message: str) -> None:
    """Set the call's gRPC status on its server span."""
    span.set_attribute("rpc.grpc.status_code", status.value[0])
    if status in _SERVER_FAULTS:
        span.set_status(trace.StatusCode.ERROR, message)


def current_trace_id() -> str:
    """The trace id of the current call as 32 hex digits, or the empty string outside any trace."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""
