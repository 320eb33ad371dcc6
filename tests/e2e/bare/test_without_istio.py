"""A cluster without Istio: what runs plain, what is refused, and what happens when Istio comes and goes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.bare.istio import APIS, Istio, log_lines
from tests.e2e.clients import ClientPod
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import (
    AUTOSCALING,
    SMALL,
    Get,
    Object,
    Service,
    add_model,
    assert_predicts_as_onnx_runtime,
    declare,
    names,
    wait_until_routed,
)

PLAIN_KINDS = ("ServiceAccount", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget")
AUTO = {"mode": "Auto"}
ISTIO = {"mode": "Istio"}
MESH_ONLY = {"mode": "Auto", "clients": "MeshOnly"}
REPORTED = 60.0
"""Seconds within which Istio's coming and going is told."""
SETTLED = timedelta(seconds=6)
"""Counts are written to status after 5 s."""


def running(get: Get, service: Service) -> dict[str, Any]:
    """Return what must stay as it is while nothing rolls: Deployments by generation, pods by uid and restarts."""
    selector = ("-n", service.namespace, "-l", f"polyglot.dev/service={service.name}")
    deployments = {d["metadata"]["name"]: d["metadata"]["generation"] for d in get("deployments", *selector)["items"]}
    pods = {
        pod["metadata"]["uid"]: [
            state["restartCount"]
            for kind in ("containerStatuses", "initContainerStatuses")
            for state in pod["status"].get(kind, [])
        ]
        for pod in get("pods", *selector)["items"]
    }
    assert deployments
    assert pods
    return {"deployments": deployments, "pods": pods}


def sidecars(service: Service) -> list[bool]:
    """Tell of every pod of a service whether it has a sidecar."""
    pods = [*service.pods("gateway"), *service.pods("inference")]
    return [
        any(c["name"] == "istio-proxy" for c in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())))
        for pod in pods
    ]


def operator_pod(get: Get) -> dict[str, Any]:
    """Return the operator's only pod."""
    (pod,) = get("pods", "-n", "polyglot-system", "-l", "app.kubernetes.io/name=polyglot-operator")["items"]
    return dict(pod)


def last_write(audit: AuditLog) -> datetime:
    """Tell when the operator last changed something."""
    return max(request.time for request in audit.since(0) if request.is_write)


@pytest.fixture
def model(kubectl: Command, namespace: str) -> str:
    """A namespace with the digits model in it."""
    add_model(kubectl, namespace)
    return namespace


@pytest.mark.usefixtures("without_istio")
def test_mode_auto_runs_plain_without_istio_and_says_so(
    kubectl: Command, get: Get, model: str, client: ClientPod
) -> None:
    service = declare(kubectl, model, "plain", mesh=AUTO)
    service.wait_ready()
    assert "no Istio" in service.wait("MeshReady", "True", "IstioAbsent")["message"]
    capabilities = service.read()["status"]["capabilities"]
    assert "istioApiVersions" not in capabilities
    assert "tracingProvider" not in capabilities
    assert capabilities["metricsApi"] == "Missing"
    owned = get(",".join(PLAIN_KINDS), "-n", model, "-l", "polyglot.dev/service=plain")["items"]
    assert names(owned) == {f"{kind}/plain-{part}" for kind in PLAIN_KINDS for part in ("gateway", "inference")}
    assert sidecars(service) == [False, False]
    wait_until_routed(client, service)
    assert_predicts_as_onnx_runtime(client, service)
    print(f"{len(owned)} children, 0 sidecars, predictions as ONNX Runtime's; capabilities {capabilities}")


@pytest.mark.usefixtures("without_istio")
@pytest.mark.parametrize(
    ("spec", "reason", "remedy"),
    [
        ({"mesh": ISTIO}, "IstioRequired", "install Istio 1.22 or newer, or set mesh.mode to None"),
        ({"mesh": MESH_ONLY}, "IstioRequired", "install Istio 1.22 or newer, or set mesh.mode to None"),
        (
            {"inference": {"resources": SMALL, "autoscaling": AUTOSCALING}},
            "MetricsAPIMissing",
            "install metrics-server, or set replicas",
        ),
    ],
    ids=["mode Istio", "clients MeshOnly", "autoscaling"],
)
def test_what_a_bare_cluster_cannot_honour_is_refused_with_a_remedy(
    kubectl: Command, get: Get, model: str, *, spec: Object, reason: str, remedy: str
) -> None:
    began = time.monotonic()
    service = declare(kubectl, model, "refused", **spec)
    assert remedy in service.wait("Accepted", "False", reason, within=30)["message"]
    print(f"{reason} after {time.monotonic() - began:.1f} s")
    service.wait("Ready", "False", reason)
    selector = ("-n", model, "-l", "polyglot.dev/service=refused")
    assert get(",".join(PLAIN_KINDS), *selector)["items"] == []


@pytest.mark.usefixtures("without_istio")
def test_what_runs_keeps_running_when_its_spec_is_refused(
    kubectl: Command, get: Get, model: str, client: ClientPod
) -> None:
    def changed(mesh: Object, replicas: int) -> Service:
        return declare(kubectl, model, "plain", mesh=mesh, inference={"resources": SMALL, "replicas": replicas})

    service = changed(AUTO, replicas=1)
    service.wait_ready()
    wait_until_routed(client, service)
    before = running(get, service)
    for mesh in (ISTIO, MESH_ONLY):
        changed(mesh, replicas=2)
        service.wait("Accepted", "False", "IstioRequired", within=30)
        service.wait("Available", "True")
        assert running(get, service) == before
        assert_predicts_as_onnx_runtime(client, service)
    changed(AUTO, replicas=1)
    service.wait_ready(within=30)
    assert running(get, service) == before
    print("2 refused specs: 0 Deployments changed, 0 pods replaced; taken back, Ready again")


@pytest.mark.usefixtures("without_istio")
def test_the_operator_is_quiet_without_istio(kubectl: Command, get: Get, model: str, audit: AuditLog) -> None:
    before = len(log_lines(kubectl))
    service = declare(kubectl, model, "plain", mesh=AUTO)
    service.wait_ready()
    seconds = 20  # more than a round of looking for Istio
    eventually(lambda: datetime.now(UTC) - last_write(audit), lambda age: age > SETTLED, 60, "the last write is over")
    mark, lines = audit.mark(), len(log_lines(kubectl))
    time.sleep(seconds)
    asked = audit.since(mark)
    assert [request for request in asked if request.is_write] == []
    assert [request for request in asked if request.code >= 400] == []
    assert log_lines(kubectl)[lines:] == []
    own = [line for line in log_lines(kubectl)[before:] if model in line.get("service", model)]
    assert [line for line in own if line["level"] != "INFO"] == []
    assert [line for line in log_lines(kubectl) if "Unresolved" in line["message"]] == []
    (state,) = operator_pod(get)["status"]["containerStatuses"]
    assert state["restartCount"] == 0
    print(f"{seconds} s: {len(asked)} reads, 0 writes, 0 refusals, 0 log lines; {lines - before} for a new service")


@pytest.mark.usefixtures("without_istio")
def test_istio_installed_later_is_reported_within_a_minute_and_rolls_nothing(
    kubectl: Command, get: Get, model: str, *, client: ClientPod, istio: Istio, audit: AuditLog
) -> None:
    plain = declare(kubectl, model, "plain", mesh=AUTO)
    waiting = declare(kubectl, model, "waiting", mesh=ISTIO)
    plain.wait_ready()
    waiting.wait("Accepted", "False", "IstioRequired")
    before, mark, operator = running(get, plain), audit.mark(), operator_pod(get)["metadata"]["uid"]

    with ThreadPoolExecutor() as pool:
        istio.install_behind(pool)
        began = time.monotonic()
        plain.wait("MeshReady", "True", "IstioAppeared", within=REPORTED)
        reported = time.monotonic() - began
        waiting.wait("Accepted", "True", within=REPORTED)
    assert reported < REPORTED
    waiting.wait_ready()
    ready = time.monotonic() - began

    assert sidecars(waiting) == [True, True]
    assert waiting.condition("MeshReady")["reason"] == "SidecarsReady"
    assert set(APIS) <= set(waiting.read()["status"]["capabilities"]["istioApiVersions"])
    assert running(get, plain) == before
    ours = [request for request in audit.since(mark, model) if request.is_write and request.name.startswith("plain")]
    assert {f"{request.resource}/{request.subresource}" for request in ours} <= {"polyglotservices/status", "events/"}
    assert operator_pod(get)["metadata"]["uid"] == operator
    wait_until_routed(client, waiting)
    for service in (plain, waiting):
        assert_predicts_as_onnx_runtime(client, service)
    print(f"reported after {reported:.1f} s; 0 pods rolled, {len(ours)} writes, all of them status and events")
    print(f"the service that waited for Istio is Ready in the mesh after {ready:.1f} s")


@pytest.mark.usefixtures("with_istio")
def test_istio_removed_is_reported_within_a_minute_and_its_return_heals(
    kubectl: Command, get: Get, model: str, client: ClientPod, istio: Istio
) -> None:
    required = declare(kubectl, model, "required", mesh=ISTIO)
    required.wait("Accepted", "True")  # the operator knows of Istio, and Auto will follow it
    joined = declare(kubectl, model, "joined", mesh=AUTO)
    both = (joined, required)
    for service in both:
        service.wait_ready()
        service.wait("MeshReady", "True", "SidecarsReady")
        assert sidecars(service) == [True, True]
        wait_until_routed(client, service)
    before = [running(get, service) for service in both]

    istio.remove()
    began = time.monotonic()
    joined.wait("MeshReady", "False", "IstioVanished", within=REPORTED)
    required.wait("Accepted", "False", "IstioRequired", within=REPORTED)
    reported = time.monotonic() - began
    assert reported < REPORTED
    for service in both:
        service.wait("Available", "True")
        assert_predicts_as_onnx_runtime(client, service)
    assert [running(get, service) for service in both] == before

    istio.install()
    began = time.monotonic()
    for service in both:
        service.wait_ready(within=REPORTED)
        strict = get("peerauthentication", f"{service.name}-inference", "-n", model)["spec"]["mtls"]["mode"]
        assert strict == "STRICT"
        assert_predicts_as_onnx_runtime(client, service)
    healed = time.monotonic() - began
    assert [running(get, service) for service in both] == before
    print(f"removal reported after {reported:.1f} s, healed {healed:.1f} s after its return; 0 pods rolled")
