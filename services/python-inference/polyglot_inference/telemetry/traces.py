"""OpenTelemetry traces, configured by the standard OTEL_* variables.

Traces are exported when an OTLP endpoint is set and OTEL_TRACES_EXPORTER is not "none"; sampler, resource and
batching follow OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME and OTEL_BSP_*. Without an exporter
no span is recorded, but the caller's trace id still reaches logs and errors. Spans are made here and not by
opentelemetry-instrumentation-grpc: that package is a beta which also traces every health probe and puts a proxy
object around each call's context. Source:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from polyglot_inference.settings import SettingsError
from polyglot_inference.telemetry.sampling import MODEL, CallSampler, TraceSettings

# The metadata that may hold a caller's trace or baggage, by OTEL_PROPAGATORS.
_CARRIERS: Final = frozenset(propagate.get_global_textmap().fields)
_TRACEPARENT_ALONE: Final = frozenset({"traceparent"})
# With ids that are not zero, which would be invalid. Source: https://www.w3.org/TR/trace-context/#traceparent-header.
_TRACEPARENT: Final = re.compile("00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_NO_SPAN: Final = nullcontext()

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
        self._ids = _TraceIds()
        self._provider = TracerProvider(self.sampler, id_generator=self._ids) if exporter else None
        if self._provider and exporter:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: trace.Tracer = (self._provider or trace.NoOpTracerProvider()).get_tracer("polyglot_inference")

    @property
    def exports(self) -> bool:
        """Whether recorded spans go anywhere."""
        return self._provider is not None

    def enter_server_span(self, service: str, method: str, parent: otel_context.Context, model: str = "") -> trace.Span:
        """The span of one call, as of `server_span`, and current from now on: the call has a context of its own."""
        span = self.server_span(service, method, parent, model)
        make_current(span, parent)
        return span

    def server_span(
        self,
        service: str,
        method: str,
        parent: otel_context.Context,
        model: str = "",
        stand_in: trace.Span | None = None,
    ) -> trace.Span:
        """The span of one call, a child of the span in the caller's context; whoever calls this ends it.

        `model` is needed only where the sampler knows models. A call that is not sampled gets no span of its own, which
        costs as much as a quick model: the caller's stands for it, or a mere trace id where the caller has none, which
        may be `stand_in`, what another unsampled call of the same caller got.
        """
        # Most callers bring no context at all.
        call = trace.get_current_span(parent) if parent else trace.INVALID_SPAN
        if self._provider is None:
            return call
        caller = call.get_span_context()
        trace_id = caller.trace_id if caller.is_valid else self._ids.generate_trace_id()
        if not self.sampler.samples(trace.SpanKind.SERVER, caller, trace_id, model):
            if caller.is_valid and not caller.trace_flags.sampled:
                return call
            if stand_in:
                return stand_in
            return trace.NonRecordingSpan(trace.SpanContext(trace_id, self._ids.generate_span_id(), is_remote=False))
        if not caller.is_valid:
            self._ids.judged = trace_id
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if model:
            attributes[MODEL] = model
        return self._tracer.start_span(
            f"{service}/{method}", context=parent, kind=trace.SpanKind.SERVER, attributes=attributes
        )

    def execute_span(self, model: str, call: trace.Span) -> AbstractContextManager[object]:
        """The span of one model execution, a child of the call's, which is the current one; none if unsampled."""
        if not call.is_recording():
            return _NO_SPAN
        return self._tracer.start_as_current_span("execute", attributes={MODEL: model})

    def batch_span(self, model: str, calls: Sequence[trace.Span], rows: int) -> AbstractContextManager[None]:
        """The span of one model execution for several calls.

        It is a child of the first that is sampled, linked with all that are; without one there is none.
        """
        sampled = [call for call in calls if call.is_recording()]
        return self._linked_span(model, sampled, len(calls), rows) if sampled else _NO_SPAN

    @contextmanager
    def _linked_span(self, model: str, sampled: Sequence[trace.Span], calls: int, rows: int) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            "execute",
            context=trace.set_span_in_context(sampled[0]),
            attributes={
                "polyglot.model.name": model,
                "polyglot.batch.rows": rows,
                "polyglot.batch.calls": calls,
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


class _TraceIds(RandomIdGenerator):
    """Gives a new trace the id by which it was judged worth a span. Used on the event loop only."""

    judged = trace.INVALID_TRACE_ID

    def generate_trace_id(self) -> int:
        judged, self.judged = self.judged, trace.INVALID_TRACE_ID
        return judged or super().generate_trace_id()


def make_current(span: trace.Span, parent: otel_context.Context) -> None:
    """Let a call's span be the current one, from now on: the call has a context of its own."""
    otel_context.attach(trace.set_span_in_context(span, parent))


def caller_context(metadata: Mapping[str, str]) -> otel_context.Context:
    """The caller's trace context and baggage, from a call's metadata.

    A plain traceparent by itself, which is what most calls bring, is read here: the library takes twice as long.
    """
    carriers = _CARRIERS.intersection(metadata)
    if not carriers:
        return otel_context.Context()
    plain = _TRACEPARENT.fullmatch(metadata["traceparent"]) if carriers == _TRACEPARENT_ALONE else None
    if not plain:
        return propagate.extract(metadata)
    trace_id, span_id, flags = plain.groups()
    caller = trace.SpanContext(int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(trace.NonRecordingSpan(caller), otel_context.Context())


def record_call(span: trace.Span, status: grpc.StatusCode, message: str, model: str, version: str) -> None:
    """Set a call's gRPC status on its server span, and the model where one was found."""
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", status.value[0])
    if status in _SERVER_FAULTS:
        span.set_status(trace.StatusCode.ERROR, message)
    if model:
        span.set_attributes({MODEL: model, "polyglot.model.version": version})


def current_trace_id() -> str:
    """The trace id of the current call as 32 hex digits, or the empty string outside any trace."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""
