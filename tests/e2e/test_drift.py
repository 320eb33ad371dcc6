"""Drift: what is edited or deleted by hand is repaired; what others own is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import ALL_CHILDREN, REPAIR, Get, Object, Service


@pytest.mark.parametrize("child", sorted(ALL_CHILDREN - {"Deployment/whole-inference"}))
def test_a_deleted_child_comes_back(kubectl: Command, get: Get, meshed: Service, child: str) -> None:
    before = get(child, "-n", meshed.namespace)["metadata"]["uid"]
    kubectl("delete", child, "-n", meshed.namespace, "--wait=true")
    eventually(
        lambda: get(child, "-n", meshed.namespace)["metadata"]["uid"], lambda uid: uid != before, REPAIR, f"new {child}"
    )


EDITS = [
    ("ServiceAccount/whole-gateway", "automountServiceAccountToken", True),
    ("ConfigMap/whole-gateway", "data", {"gateway.yaml": "listen: {}"}),
    ("Service/whole-inference", "spec.ports", [{"name": "grpc", "port": 9000, "targetPort": 1}]),
    ("Service/whole-gateway", "spec.type", "NodePort"),
    ("Deployment/whole-gateway", "spec.template.spec.hostNetwork", True),
    ("Deployment/whole-gateway", "spec.replicas", 2),
    ("Deployment/whole-gateway", "spec.template.spec.automountServiceAccountToken", True),
    ("PodDisruptionBudget/whole-gateway", "spec.maxUnavailable", 3),
    ("HorizontalPodAutoscaler/whole-inference", "spec.maxReplicas", 9),
    ("PeerAuthentication/whole-inference", "spec.mtls.mode", "PERMISSIVE"),
    ("PeerAuthentication/whole-inference", "spec.portLevelMtls", {"9000": {"mode": "DISABLE"}}),
    ("DestinationRule/whole-inference", "spec.trafficPolicy.tls.mode", "DISABLE"),
    ("VirtualService/whole-inference", "spec.gateways", ["mesh", "outside"]),
    ("AuthorizationPolicy/whole-inference", "spec.rules", [{}]),
    ("Telemetry/whole-telemetry", "spec.accessLogging", [{"disabled": True}]),
]


def at(obj: Object, path: str) -> Any:
    """Return the value at a dotted path, None where it leads nowhere."""
    found: Any = obj
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def nested(path: str, value: Any) -> Object:
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize(("child", "path", "value"), EDITS)
def test_an_edit_by_hand_is_undone(  # noqa: PLR0917
    kubectl: Command, get: Get, meshed: Service, child: str, path: str, value: Any
) -> None:
    before = at(get(child, "-n", meshed.namespace), path)
    assert before != value
    patch = json.dumps(nested(path, value))
    kubectl("patch", child, "-n", meshed.namespace, "--type", "merge", "-p", patch)
    eventually(
        lambda: at(get(child, "-n", meshed.namespace), path), lambda seen: seen == before, REPAIR, f"{child} {path}"
    )


def test_a_label_that_hides_a_child_from_us_comes_back(kubectl: Command, get: Get, meshed: Service) -> None:
    label = "app.kubernetes.io/managed-by"
    kubectl("label", "configmap/whole-inference", "-n", meshed.namespace, f"{label}-")
    eventually(
        lambda: get("configmap/whole-inference", "-n", meshed.namespace)["metadata"]["labels"].get(label),
        lambda value: value == "polyglot-operator",
        REPAIR,
        "the label",
    )


def test_what_others_wrote_on_our_children_stays(kubectl: Command, get: Get, meshed: Service) -> None:
    deployment = ("deployment/whole-gateway", "-n", meshed.namespace)
    kubectl("annotate", *deployment, "example.com/note=mine", "--overwrite")
    kubectl("label", "service/whole-gateway", "-n", meshed.namespace, "example.com/team=a", "--overwrite")
    kubectl("patch", *deployment, "--type", "merge", "-p", '{"spec": {"minReadySeconds": 1, "replicas": 2}}')
    eventually(lambda: get(*deployment)["spec"]["replicas"], lambda count: count == 1, REPAIR, "one replica")
    seen = get(*deployment)
    assert seen["metadata"]["annotations"]["example.com/note"] == "mine"
    assert seen["spec"]["minReadySeconds"] == 1
    labels = get("service/whole-gateway", "-n", meshed.namespace)["metadata"]["labels"]
    assert labels["example.com/team"] == "a"
    kubectl("patch", *deployment, "--type", "merge", "-p", '{"spec": {"minReadySeconds": null}}')
