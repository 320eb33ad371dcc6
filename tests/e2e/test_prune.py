"""What the spec no longer asks for goes; a deleted service leaves nothing, and no finalizer ever holds one back."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from polyglot_operator.cluster.kinds import CHILDREN, SERVICE, Ref
from tests.e2e.api import JSON_PATCH, Api
from tests.e2e.audit import AuditLog
from tests.e2e.cluster import Command, eventually
from tests.e2e.modes import OPERATOR_NAMESPACE, OPERATOR_PODS, fresh_namespace
from tests.e2e.services import (
    AUTOSCALING,
    EVERYTHING,
    REPAIR,
    SMALL,
    Get,
    Object,
    Service,
    add_model,
    all_children,
    children,
    declare,
    names,
)

pytestmark = pytest.mark.core

KINDS = {kind.name: kind for kind in CHILDREN}
SCALED_GATEWAY: Object = {"resources": SMALL, "autoscaling": AUTOSCALING}
MESH = {f"{kind}/shrinking-inference" for kind in (
    "PeerAuthentication", "DestinationRule", "VirtualService", "AuthorizationPolicy")} | {
    "PeerAuthentication/shrinking-gateway"}  # fmt: skip
SECTIONS = {
    "/spec/inference/autoscaling": {"HorizontalPodAutoscaler/shrinking-inference"},
    "/spec/gateway": {"HorizontalPodAutoscaler/shrinking-gateway"},
    "/spec/telemetry": {"Telemetry/shrinking-telemetry"},
}
"""Sections whose removal takes children along; `disruption` is none: every component has a budget."""

Leftovers = Callable[[Service], list[Object]]


@pytest.fixture(scope="module")
def leftovers(kubectl: Command) -> Leftovers:
    """Return everything of any kind, pods and endpoints included, that bears a service's name; events aside."""
    listed = kubectl("api-resources", "--namespaced", "--verbs=list,create", "-o", "name").split()
    kinds = ",".join(kind for kind in listed if kind not in {"events", "events.events.k8s.io"})

    def find(service: Service) -> list[Object]:
        found = json.loads(kubectl("get", kinds, "-n", service.namespace, "-o", "json"))["items"]
        name = service.name
        return [o for o in found if o["metadata"]["name"] == name or o["metadata"]["name"].startswith(f"{name}-")]

    return find


def whole(kubectl: Command, namespace: str, name: str) -> Service:
    """Make a service with every kind of child, and wait until it is Ready."""
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, name, **{**EVERYTHING, "gateway": SCALED_GATEWAY})
    service.wait_ready()
    return service


def finalizers(objects: list[Object]) -> dict[str, Any]:
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["metadata"]["finalizers"]
        for obj in objects
        if obj["metadata"].get("finalizers")
    }


def pod_uids(service: Service) -> set[str]:
    return {pod["metadata"]["uid"] for component in ("inference", "gateway") for pod in service.pods(component)}


@pytest.fixture(scope="module")
def shrinking(kubectl: Command, module_namespace: str) -> Service:
    """A service that starts with everything."""
    return whole(kubectl, module_namespace, "shrinking")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_taken_out_of_the_spec_takes_its_children_along(
    api: Api, get: Get, shrinking: Service, section: str
) -> None:
    before = names(children(get, shrinking))
    assert before >= SECTIONS[section]
    ref = Ref(SERVICE, shrinking.namespace, shrinking.name)
    api.send("PATCH", ref.path, [{"op": "remove", "path": section}], JSON_PATCH)
    began = time.monotonic()
    surplus = [Ref(KINDS[kind], ref.namespace, name) for kind, name in (c.split("/") for c in SECTIONS[section])]
    eventually(lambda: [api.get(child) for child in surplus], lambda found: not any(found), REPAIR, "their end")
    print(f"without {section}: {', '.join(SECTIONS[section])} gone in {time.monotonic() - began:.1f} s")
    left = children(get, shrinking)
    assert names(left) == before - SECTIONS[section]
    assert finalizers([shrinking.read(), *left]) == {}


def test_leaving_the_mesh_takes_every_object_of_it_along(api: Api, get: Get, shrinking: Service) -> None:
    before = names(children(get, shrinking))
    assert before >= MESH
    ref = Ref(SERVICE, shrinking.namespace, shrinking.name)
    api.send("PATCH", ref.path, [{"op": "replace", "path": "/spec/mesh/mode", "value": "None"}], JSON_PATCH)
    began = time.monotonic()
    shrinking.wait("MeshReady", "True", "MeshDisabled", within=240)
    assert names(children(get, shrinking)) == before - MESH
    shrinking.wait_ready()
    print(f"out of the mesh in {time.monotonic() - began:.0f} s: {len(MESH)} objects gone, {len(before - MESH)} left")
    assert finalizers([shrinking.read(), *children(get, shrinking)]) == {}


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_deleting_a_service_leaves_nothing(
    kubectl: Command, audit: AuditLog, leftovers: Leftovers, module_namespace: str, cascade: str
) -> None:
    service = whole(kubectl, module_namespace, f"leaving-{cascade}")
    there = leftovers(service)
    assert names(there) >= all_children(service.name)
    assert {"Pod", "ReplicaSet", "EndpointSlice"} <= {obj["kind"] for obj in there}
    assert finalizers(there) == {}
    mark, began = audit.mark(), time.monotonic()
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace, f"--cascade={cascade}", "--wait=false")
    # The API server's own: it holds the service until the children that it has found are gone.
    assert set(chain.from_iterable(finalizers(leftovers(service)).values())) <= {"foregroundDeletion"}
    eventually(lambda: leftovers(service), lambda found: not found, 90, f"nothing left of {service.name}")
    seconds = time.monotonic() - began
    ours = [r for r in audit.since(mark, service.namespace) if r.is_write and r.name.startswith(service.name)]
    assert [r for r in ours if r.resource not in {"polyglotservices", "events"}] == []
    print(f"{cascade}: {len(there)} objects of {len({obj['kind'] for obj in there})} kinds gone in {seconds:.1f} s")


@pytest.mark.disruptive
def test_deleting_a_service_while_no_operator_runs_leaves_nothing(
    kubectl: Command, leftovers: Leftovers, module_namespace: str
) -> None:
    service = whole(kubectl, module_namespace, "alone")
    there = leftovers(service)
    operator = ("deployment/polyglot-operator", "-n", OPERATOR_NAMESPACE)
    try:
        kubectl("scale", *operator, "--replicas=0")
        kubectl("wait", *OPERATOR_PODS, "--for=delete")
        began = time.monotonic()
        kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
        eventually(lambda: leftovers(service), lambda found: not found, 90, f"nothing left of {service.name}")
        print(f"{len(there)} objects gone in {time.monotonic() - began:.1f} s, with no operator")
    finally:
        kubectl("scale", *operator, "--replicas=1")
        kubectl("rollout", "status", *operator, "--timeout=90s")


def test_children_left_behind_on_purpose_are_taken_up_by_a_new_service_of_the_name(
    kubectl: Command, get: Get, leftovers: Leftovers, module_namespace: str
) -> None:
    service = whole(kubectl, module_namespace, "orphaned")
    former, pods = service.read()["metadata"]["uid"], pod_uids(service)
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace, "--cascade=orphan")
    left = children(get, service)
    assert names(left) > all_children(service.name)
    assert [obj for obj in left if obj["metadata"].get("ownerReferences")] == []

    began = time.monotonic()
    declare(kubectl, service.namespace, service.name, **EVERYTHING)  # without an autoscaler of the gateway
    service.wait_ready()
    seconds = time.monotonic() - began
    taken = children(get, service)
    uid = service.read()["metadata"]["uid"]
    assert uid != former
    assert {obj["metadata"]["ownerReferences"][0]["uid"] for obj in taken} == {uid}
    assert names(taken) == all_children(service.name)
    assert pod_uids(service) == pods
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
    eventually(lambda: leftovers(service), lambda found: not found, 90, f"nothing left of {service.name}")
    print(f"{len(taken)} children taken up in {seconds:.1f} s, 1 pruned, {len(pods)} pods not restarted")


def test_a_service_made_again_at_once_gets_children_of_its_own(
    kubectl: Command, get: Get, module_namespace: str
) -> None:
    add_model(kubectl, module_namespace)
    service = declare(kubectl, module_namespace, "again")
    service.wait_ready()
    pods = pod_uids(service)
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
    declare(kubectl, service.namespace, service.name)
    began = time.monotonic()
    service.wait_ready()
    seconds = time.monotonic() - began
    uid = service.read()["metadata"]["uid"]
    assert {obj["metadata"]["ownerReferences"][0]["uid"] for obj in children(get, service)} == {uid}
    assert not pod_uids(service) & pods
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
    print(f"deleted and made again: Ready after {seconds:.1f} s with children of its own")


def test_what_a_former_service_of_the_name_owned_gives_way(kubectl: Command, get: Get, module_namespace: str) -> None:
    add_model(kubectl, module_namespace)
    service = Service(kubectl, module_namespace, "former")
    owner = {"apiVersion": "polyglot.dev/v1alpha1", "kind": "PolyglotService", "name": "former", "controller": True}
    labels = {"app.kubernetes.io/managed-by": "polyglot-operator", "polyglot.dev/service": "former"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"old": "1"}}
    for name in ("former-gateway", "former-telemetry"):  # one that is wanted, one that isn't
        metadata = {"name": name, "labels": labels, "ownerReferences": [{**owner, "uid": str(uuid.uuid4())}]}
        kubectl("create", "-n", module_namespace, "-f", "-", stdin=json.dumps({**body, "metadata": metadata}))
    declare(kubectl, module_namespace, service.name)
    began = time.monotonic()
    service.wait("Reconciled", "True", within=60)
    eventually(lambda: names(children(get, service)), lambda n: "ConfigMap/former-telemetry" not in n, 60, "its end")
    assert get("configmap/former-gateway", "-n", module_namespace)["data"].keys() == {"gateway.yaml"}
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
    print(f"children of a former uid gone, the new service's in their place after {time.monotonic() - began:.1f} s")


def test_services_go_with_their_namespace_and_the_operator_does_not_complain(kubectl: Command, get: Get) -> None:
    namespace = fresh_namespace(kubectl)
    add_model(kubectl, namespace)
    services = [declare(kubectl, namespace, name) for name in ("one", "two", "three")]
    for service in services:
        service.wait("Reconciled", "True")
    began = time.monotonic()
    kubectl("delete", "namespace", namespace, "--timeout=110s")
    seconds = time.monotonic() - began
    log = kubectl("logs", "-n", OPERATOR_NAMESPACE, "deployment/polyglot-operator", f"--since={int(seconds) + 2}s")
    about = [entry for line in log.splitlines() if namespace in line and (entry := json.loads(line))]
    told = [entry for entry in about if entry["message"] != "Condition changed"]
    complaints = [entry for entry in told if entry["level"] != "INFO" or entry.get("result") == "failed"]
    assert complaints == []
    print(f"{len(services)} services gone with their namespace in {seconds:.0f} s; 0 complaints in {len(about)} lines")
