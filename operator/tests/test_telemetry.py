"""Metrics, spans and logs as their readers get them."""

from __future__ import annotations

import io
import json
import logging

import pytest
from opentelemetry.sdk.trace import Tracer

from polyglot_operator.telemetry import JsonFormatter, Metrics, tracer


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
