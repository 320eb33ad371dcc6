"""OpenTelemetry traces, configured by the standard OTEL_* variables.

Traces are exported when an OTLP endpoint is set and OTEL_TRACES_EXPORTER is not "none"; sampler, resource and
batching follow OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME and OTEL_BSP_*. Without an exporter
no span is recorded, but the caller's trace id still reaches logs and errors. Spans are made here and not by
opentelemetry-instrumentation-grpc: that package is a beta which also traces every health probe and puts a proxy
object around each call's context. Source:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import functools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Self

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
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
# The key of the current span in a context; the library has no public name for it.
(_SPAN,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_RANDOM: Final = RandomIdGenerator()

NO_CALLER: Final = Context()
"""The context of a call whose caller brings none."""

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

    def call_context(
        self, service: str, method: str, caller: Context, model: str = "", stand_in: Context | None = None
    ) -> Context:
        """The context of one call, a child of its caller's, with the call's span; `end_span` ends that.

        `model` is needed only where the sampler knows models. A call that is not sampled gets no span of its own, which
        costs as much as a quick model: the caller's stands for it, or a mere trace id where the caller has none, which
        may be that of `stand_in`, the context of another unsampled call of the same caller.
        """
        if self._provider is None:
            return caller
        parent: _UnrecordedSpan | None = caller.get(_SPAN)  # type: ignore[assignment]  # of caller_context
        trace_id = parent.trace_id if parent else _RANDOM.generate_trace_id()
        if not self.sampler.samples(parent.sampled if parent else None, trace_id, model):
            if parent and not parent.sampled:
                return caller
            return stand_in or Context({**caller, _SPAN: _UnrecordedSpan(trace_id)})
        if not parent:
            self._ids.judged = trace_id
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if model:
            attributes[MODEL] = model
        return trace.set_span_in_context(
            self._tracer.start_span(
                f"{service}/{method}", context=caller, kind=trace.SpanKind.SERVER, attributes=attributes
            ),
            caller,
        )

    def execute_span(self, model: str, call: Context) -> AbstractContextManager[object]:
        """The span of one model execution, a child of the call's, whose context is current; none if unsampled."""
        if not span_in(call).is_recording():
            return _NO_SPAN
        return self._tracer.start_as_current_span("execute", attributes={MODEL: model})

    def batch_span(self, model: str, calls: Sequence[Context], rows: int) -> AbstractContextManager[None]:
        """The span of one model execution for several calls.

        It is a child of the first that is sampled, linked with all that are; without one there is none.
        """
        sampled = [span for span in map(span_in, calls) if span.is_recording()]
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


class _UnrecordedSpan(trace.NonRecordingSpan):
    """A caller's span, or what stands for one of ours: most calls have no other.

    Parameters
    ----------
    trace_id
        Its trace's id.
    span_id
        Its own, as 16 hex digits; "" makes one up once it is asked for, as it is for few calls.
    flags
        The W3C flags of its trace.
    """

    def __init__(self, trace_id: int, span_id: str = "", flags: int = trace.TraceFlags.DEFAULT) -> None:
        self.trace_id = trace_id
        self.sampled = bool(flags & trace.TraceFlags.SAMPLED)
        self._span_id = span_id
        self._flags = flags

    @classmethod
    def of(cls, known: trace.SpanContext) -> Self:
        """That of a caller of whom more is known: the state that tracing systems gave it."""
        span = cls(known.trace_id, trace.format_span_id(known.span_id), known.trace_flags)
        span.__dict__["_context"] = known
        return span

    @functools.cached_property
    def _context(self) -> trace.SpanContext:  # type: ignore[override]  # an attribute of the library's class
        span_id = int(self._span_id, 16) if self._span_id else _RANDOM.generate_span_id()
        return trace.SpanContext(self.trace_id, span_id, bool(self._span_id), trace.TraceFlags(self._flags))


def caller_context(metadata: Mapping[str, str]) -> Context:
    """The caller's trace context and baggage, from a call's metadata.

    A plain traceparent by itself, which is what most calls bring, is read here: the library takes twice as long.
    """
    carriers = _CARRIERS.intersection(metadata)
    if not carriers:
        return NO_CALLER
    plain = _TRACEPARENT.fullmatch(metadata["traceparent"]) if carriers == _TRACEPARENT_ALONE else None
    if not plain:
        return _extracted(metadata)
    trace_id, span_id, flags = plain.groups()
    return Context({_SPAN: _UnrecordedSpan(int(trace_id, 16), span_id, int(flags, 16))})


def _extracted(metadata: Mapping[str, str]) -> Context:
    context = propagate.extract(metadata)
    caller = context.get(_SPAN)
    if not isinstance(caller, trace.Span):
        return context
    known = caller.get_span_context()
    if not known.is_valid:
        return Context({key: value for key, value in context.items() if key != _SPAN})
    return Context({**context, _SPAN: _UnrecordedSpan.of(known)})


def span_in(context: Context) -> trace.Span:
    """A call's span, or what stands for it, from the call's context."""
    return context.get(_SPAN, trace.INVALID_SPAN)  # type: ignore[return-value]


def trace_id_in(context: Context) -> str:
    """The trace id of a call as 32 hex digits, or the empty string outside any trace; from the call's context."""
    span = span_in(context).get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


@contextmanager
def current(context: Context) -> Iterator[None]:
    """Let a call's context be the current one meanwhile: log lines and spans are the call's."""
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def end_span(context: Context, status: grpc.StatusCode, message: str, model: str, version: str) -> None:
    """End a call's span, with its gRPC status, and the model where one was found."""
    span = span_in(context)
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", status.value[0])
    if status in _SERVER_FAULTS:
        span.set_status(trace.StatusCode.ERROR, message)
    if model:
        span.set_attributes({MODEL: model, "polyglot.model.version": version})
    span.end()
