"""Item 1: what a server says of itself over its life."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conformance.clients import SECONDS, Rest, Stub, Triton, connect
from tests.conformance.suite import CALLS, GRPC, JSON, REST, STARTING_SECONDS, STUB, SYNC, check, equal
from tests.conformance.targets import eventually, in_background


@check(1, "a running server is live", CALLS)
def live(client: Triton) -> None:
    equal(client.is_server_live(), True, "live")


@check(1, "a running server is ready", CALLS)
def ready(client: Triton) -> None:
    equal(client.is_server_ready(), True, "ready")


@check(1, "a loaded model is ready, with and without its version named", CALLS)
def model_ready(client: Triton) -> None:
    equal(client.is_model_ready("identity-fp32"), True, "ready")
    equal(client.is_model_ready("identity-fp32", "1"), True, "version 1 ready")


@check(1, "an unknown model, and an unknown version, is not ready", CALLS)
def unknown_model_not_ready(client: Triton) -> None:
    equal(client.is_model_ready("absent"), False, "ready")
    equal(client.is_model_ready("identity-fp32", "99"), False, "version 99 ready")


@check(1, "live and ready answer 200 to GET", [REST])
def health_routes(client: Rest) -> None:
    for path in ("live", "ready"):
        equal(client.call(f"/v2/health/{path}").status, 200, path)


@check(1, "grpc.health.v1 says SERVING", [STUB])
def health_service(client: Stub) -> None:
    health: Any = health_pb2_grpc.HealthStub(client.channel)  # its published stubs declare no methods
    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    equal(answer.status, health_pb2.HealthCheckResponse.SERVING, "status")


@check(1, "while a model loads the server is live and the model is not ready; then it is", SYNC, STARTING_SECONDS)
def loading(client: Triton) -> None:
    target = client.instance.target
    with (
        tempfile.TemporaryDirectory() as folder,
        target.loading(Path(folder), "late") as instance,
        connect(client.kind, instance) as own,
    ):
        equal(own.is_model_ready("late"), False, "ready while loading")
        equal(own.is_server_live(), True, "live while loading")
        eventually(lambda: bool(own.is_model_ready("late")), "the model is ready")
        equal(own.is_server_ready(), True, "server ready")


@check(
    1, "a server told to end answers the call in flight, is no longer ready, and ends", [JSON, GRPC], STARTING_SECONDS
)
def draining(client: Triton) -> None:
    target = client.instance.target
    with (
        tempfile.TemporaryDirectory() as folder,
        target.launch(Path(folder), ["slow"]) as instance,
        connect(client.kind, instance) as own,
        connect(client.kind, instance) as other,
    ):
        with in_background(lambda: own.infer("slow", own.slow("flight", 2))) as answered:
            eventually(lambda: "flight" in instance.executions(), "the call is executed")
            instance.terminate()
            eventually(lambda: not _is_ready(other), "not ready")
            answered()
        eventually(instance.ended, "the processes have ended")


def _is_ready(client: Triton) -> bool:
    """Whether a server that may have closed its port says that it is ready."""
    try:
        return bool(client.is_server_ready())
    except Exception:  # noqa: BLE001 - each transport has its own way to say that nobody listens
        return False
