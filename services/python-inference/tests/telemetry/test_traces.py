"""Which environment turns traces on, and what is refused."""

import socket

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from polyglot_inference.settings import SettingsError
from polyglot_inference.telemetry.traces import Tracing, caller_context, exporter_from_environment

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
        tracing = Tracing(OTLPSpanExporter(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        tracing.enter_server_span("service", "method", caller_context({})).end()
        assert not tracing.close(0.1)


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
