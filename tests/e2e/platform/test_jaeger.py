"""Jaeger: spans in by OTLP, traces out on the host's port 16686."""

import json
import secrets
import time
from typing import Any

import pytest

from tests.e2e.cluster import eventually
from tests.e2e.platform.pods import Pods
from tests.http import call

QUERY = "http://127.0.0.1:16686"


def span_export(service: str, trace: str) -> str:
    """One span as an OTLP/HTTP request body (opentelemetry-proto, ExportTraceServiceRequest in JSON)."""
    now = time.time_ns()
    span = {
        "traceId": trace,
        "spanId": secrets.token_hex(8),
        "name": "platform-test",
        "kind": 1,
        "startTimeUnixNano": str(now - 1_000_000),
        "endTimeUnixNano": str(now),
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})


def read_trace(trace: str) -> list[Any]:
    """The trace by Jaeger's API; empty while Jaeger does not know it."""
    reply = call(f"{QUERY}/api/traces/{trace}")
    return list(reply.json()["data"]) if reply.status == 200 else []


def test_a_span_sent_by_otlp_is_read_back_on_the_host(pods: Pods, tool_image: str) -> None:
    trace, service = secrets.token_hex(16), f"platform-test-{secrets.token_hex(4)}"
    sender = pods.start("sender", tool_image)
    sender.run(
        "curl", "--silent", "--show-error", "--fail", "--header", "Content-Type: application/json",
        "--data", span_export(service, trace), "http://jaeger.observability.svc.cluster.local:4318/v1/traces",
    )  # fmt: skip
    (found,) = eventually(lambda: read_trace(trace), bool, 20, f"trace {trace}")
    assert [span["operationName"] for span in found["spans"]] == ["platform-test"]
    assert {process["serviceName"] for process in found["processes"].values()} == {service}


@pytest.mark.parametrize(("port", "protocol"), [(4317, "grpc"), (4318, "http"), (16686, "http")])
def test_every_port_of_the_service_names_its_protocol(get: Any, port: int, protocol: str) -> None:
    ports = get("service", "jaeger", "-n", "observability")["spec"]["ports"]
    assert {each["port"]: each["appProtocol"] for each in ports}[port] == protocol
