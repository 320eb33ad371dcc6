"""Which environment turns traces on, and what is refused."""

import socket

import grpc
import pytest
from opentelemetry import baggage, propagate
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from polyglot_inference.settings import SettingsError
from polyglot_inference.telemetry.sampling import CallSampler, TraceSettings
from polyglot_inference.telemetry.traces import (
    NO_CALLER,
    Tracing,
    caller_context,
    end_span,
    exporter_from_environment,
    span_in,
    trace_id_in,
)

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_traces_are_off_without_endpoint_or_by_choice(environment: dict[str, str]) -> None:
    assert exporter_from_environment(environment) is None


@pytest.mark.parametrize(
    "environment",
    [
        ENDPOINT,
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"},
    ],
)
def test_traces_are_on_with_an_endpoint(environment: dict[str, str]) -> None:
    exporter = exporter_from_environment(environment)
    assert isinstance(exporter, OTLPSpanExporter)
    exporter.shutdown()


def test_a_collector_that_never_answers_does_not_hold_the_end_of_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracing = Tracing(exporter)
        call = tracing.call_context("service", "method", caller_context({}))
        end_span(call, grpc.StatusCode.OK, "", "", "")
        assert not tracing.close(0.1)
        exporter.shutdown()  # or its failure is logged in the midst of another test


def test_of_calls_without_a_caller_the_share_is_traced_each_with_an_id_of_its_own() -> None:
    tracing = Tracing(InMemorySpanExporter(), CallSampler(TraceSettings(on=True, share=0.5)))
    spans = [span_in(tracing.call_context("service", "method", NO_CALLER)) for _ in range(2000)]
    recorded = [span for span in spans if span.is_recording()]
    assert 850 < len(recorded) < 1150  # 1000 expected, six times the deviation to both sides
    assert len({span.get_span_context().trace_id for span in spans}) == 2000
    assert all(span.get_span_context().is_valid for span in spans)
    assert all(span.get_span_context().trace_flags.sampled is span.is_recording() for span in spans)


def test_a_call_of_an_untraced_caller_has_the_callers_trace_id_and_no_span() -> None:
    tracing = Tracing(InMemorySpanExporter())
    caller = caller_context({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"})
    call = tracing.call_context("service", "method", caller)
    assert not span_in(call).is_recording()
    assert trace_id_in(call) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "traceparent",
    [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "",
        "nonsense",
    ],
)
def test_a_traceparent_is_read_as_the_library_reads_it(traceparent: str) -> None:
    expected = get_current_span(propagate.extract({"traceparent": traceparent})).get_span_context()
    for metadata in ({"traceparent": traceparent}, {"traceparent": traceparent, "user-agent": "a"}):
        assert get_current_span(caller_context(metadata)).get_span_context() == expected


def test_tracestate_and_baggage_come_along() -> None:
    metadata = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "tracestate": "vendor=1",
        "baggage": "tenant=a",
    }
    caller = caller_context(metadata)
    assert get_current_span(caller).get_span_context().trace_state.to_header() == "vendor=1"
    assert baggage.get_baggage("tenant", caller) == "a"


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin' is not supported"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not"),
    ],
)
def test_an_exporter_that_is_not_built_in_is_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        exporter_from_environment(environment)
