"""Metrics, spans and logs as their readers get them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import Tracer

from polyglot_operator.telemetry import JsonFormatter, Metrics, configure_logging, tracer


def test_metrics_carry_the_names_of_controller_runtime() -> None:
    metrics = Metrics()
    with metrics.reconciling(waited=0.1):
        pass
    metrics.reconciled("success")
    metrics.reconciled("error")
    metrics.depth(3)
    metrics.requested("PATCH", "200", 0.01)
    metrics.applied("Service", "created")
    metrics.services({"True": 2})
    metrics.watches({"/api/v1/pods": 4.0})
    text = metrics.render().decode()
    for line in (
        'controller_runtime_reconcile_total{controller="polyglotservice",result="success"} 1.0',
        'controller_runtime_reconcile_time_seconds_count{controller="polyglotservice"} 1.0',
        'workqueue_depth{name="polyglotservice"} 3.0',
        'workqueue_retries_total{name="polyglotservice"} 1.0',
        'rest_client_requests_total{code="200",method="PATCH"} 1.0',
        'polyglot_apply_total{kind="Service",result="created"} 1.0',
        'polyglot_services{ready="True"} 2.0',
        'polyglot_services{ready="False"} 0.0',
        'polyglot_watch_age_seconds{path="/api/v1/pods"} 4.0',
    ):
        assert line in text


@pytest.mark.parametrize(
    ("environment", "exports"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}, True),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            True,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_are_exported_only_where_the_standard_variables_say_so(
    environment: dict[str, str], exports: bool
) -> None:
    assert isinstance(tracer(environment), Tracer) is exports


def test_a_record_is_one_json_object_with_its_own_fields() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    broken = ValueError("broken")
    fields = {"service": "ns/s", "exc_info": (ValueError, broken, None), "levelname": "ERROR", "msg": "Could not do it"}
    handler.handle(logging.makeLogRecord(fields))
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["level"], record["message"], record["service"]) == ("ERROR", "Could not do it", "ns/s")
    assert "ValueError: broken" in record["error"]


ABSENT = "Selector(group='security.istio.io', version='v1', plural='peerauthentications')"
OURS = "Selector(group='polyglot.dev', version='v1alpha1', plural='polyglotservices')"


@pytest.mark.parametrize(("selectors", "told"), [(ABSENT, False), (f"{ABSENT}, {OURS}", True)])
def test_a_cluster_without_istio_is_no_warning_and_one_without_the_crd_is(
    selectors: str, told: bool, restored_logging: None
) -> None:
    stream = io.StringIO()
    configure_logging("INFO", stream)
    observation = logging.getLogger("kopf._core.reactor.observation")
    observation.warning("Unresolved resources cannot be served (try creating their CRDs): %s", selectors)
    assert (selectors in stream.getvalue()) is told


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo what `configure_logging` does to the process."""
    loggers = [logging.getLogger(name) for name in ("", "kopf", "aiohttp", "asyncio")]
    levels, handlers = [logger.level for logger in loggers], list(loggers[0].handlers)
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
