"""What the operator promises about one service's objects, held on the real API server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Command, CommandError, eventually
from tests.e2e.services import EXAMPLES, Service

Object = dict[str, Any]
Get = Callable[..., Object]

OPERATOR = ("-n", "polyglot-system", "deployment/polyglot-operator")
REPAIR = 10.0  # seconds within which drift must be gone
CHILDREN = (
    "serviceaccounts,configmaps,services,deployments,poddisruptionbudgets,horizontalpodautoscalers,"
    "peerauthentications,destinationrules,virtualservices,authorizationpolicies,telemetries"
)
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}
# A target that is never reached: these tests are about objects, not about load.
AUTOSCALING = {"minReplicas": 1, "maxReplicas": 2, "metrics": [{"type": "CPU", "averageUtilization": 1000}]}


def declare(kubectl: Command, namespace: str, name: str, source: str = "digits-model", **spec: Object) -> Service:
    """Apply a small service that serves the digits model outside of the mesh; `spec` replaces whole sections."""
    model = {"name": "digits", "format": "ONNX", "source": {"configMap": {"name": source}}}
    sections = {"inference": {"resources": SMALL}, "gateway": {"resources": SMALL}, "mesh": {"mode": "None"}}
    body = {
        "apiVersion": "polyglot.dev/v1alpha1",
        "kind": "PolyglotService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"models": [model], **sections, **spec},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    return Service(kubectl, namespace, name)


def add_model(kubectl: Command, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "digits" / "model.yaml"))


def children(get: Get, service: Service) -> list[Object]:
    found = get(
        CHILDREN, "-n", service.namespace, "-l", f"polyglot.dev/service={service.name}", "--show-managed-fields"
    )
    items: list[Object] = found["items"]
    return items


def names(objects: list[Object]) -> set[str]:
    return {f"{obj['kind']}/{obj['metadata']['name']}" for obj in objects}


def written(objects: list[Object]) -> dict[str, Any]:
    """Return what the operator has written to each object and when; what controllers write beside it doesn't count."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": [
            entry for entry in obj["metadata"]["managedFields"] if entry["manager"].startswith("polyglot-")
        ]
        for obj in objects
    }


@pytest.fixture(scope="module")
def meshed(kubectl: Command, module_namespace: str) -> Iterator[Service]:
    """A service with every kind of child, shared by the tests that edit its children."""
    add_model(kubectl, module_namespace)
    service = declare(
        kubectl,
        module_namespace,
        "whole",
        inference={"resources": SMALL, "autoscaling": AUTOSCALING},
        mesh={"mode": "Istio"},
        telemetry={"tracing": {"endpoint": "http://jaeger.observability.svc.cluster.local:4317"}},
    )
    service.wait_ready()
    yield service
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)


ALL_CHILDREN = {
    *(f"{kind}/whole-{part}" for kind in ("ServiceAccount", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget")
      for part in ("inference", "gateway")),
    "PeerAuthentication/whole-inference",
    "PeerAuthentication/whole-gateway",
    "DestinationRule/whole-inference",
    "VirtualService/whole-inference",
    "AuthorizationPolicy/whole-inference",
    "Telemetry/whole-telemetry",
    "HorizontalPodAutoscaler/whole-inference",
}  # fmt: skip


def test_a_service_becomes_all_its_children_and_its_status_tells_the_truth(
    get: Get, meshed: Service, images: dict[str, str]
) -> None:
    found = children(get, meshed)
    assert names(found) == ALL_CHILDREN
    uid = meshed.read()["metadata"]["uid"]
    for child in found:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (uid, True)
        assert "finalizers" not in child["metadata"]

    status = meshed.read()["status"]
    assert status["url"] == f"http://whole-gateway.{meshed.namespace}.svc.cluster.local:8000"
    assert status["observedGeneration"] == meshed.read()["metadata"]["generation"]
    for component, image in (("inference", "INFERENCE_IMAGE"), ("gateway", "GATEWAY_IMAGE")):
        (pod,) = meshed.pods(component)
        assert status[component] == {
            "replicas": 1,
            "readyReplicas": 1,
            "updatedReplicas": 1,
            "revision": pod["metadata"]["labels"]["pod-template-hash"],
            "image": images[image],
        }
    assert "security.istio.io/v1" in status["capabilities"]["istioApiVersions"]
    assert status["capabilities"]["metricsApi"] == "Present"


def test_the_framework_leaves_no_trace_on_a_service(meshed: Service) -> None:
    metadata = meshed.read()["metadata"]
    assert "finalizers" not in metadata
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]


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


def test_an_idle_service_is_not_written_to_and_an_operator_restart_changes_nothing(
    kubectl: Command, get: Get, meshed: Service
) -> None:
    def writes() -> dict[str, Any]:
        service = get("polyglotservice", meshed.name, "-n", meshed.namespace, "--show-managed-fields")
        return written([service, *children(get, meshed)])

    def unchanged_for(seconds: float) -> bool:
        before = writes()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if writes() != before:
                return False
            time.sleep(1)
        return True

    meshed.wait_ready()
    eventually(lambda: unchanged_for(15), bool, 120, "15 s without any write")
    before = writes()
    kubectl("rollout", "restart", *OPERATOR)
    kubectl("rollout", "status", *OPERATOR, "--timeout=120s")
    assert unchanged_for(10)
    assert writes() == before


def test_a_section_taken_out_of_the_spec_takes_its_children_along(kubectl: Command, get: Get, namespace: str) -> None:
    add_model(kubectl, namespace)
    scaled = {"resources": SMALL, "autoscaling": AUTOSCALING}
    service = declare(kubectl, namespace, "shrinking", inference=scaled)
    service.wait("Reconciled", "True")
    assert "HorizontalPodAutoscaler/shrinking-inference" in names(children(get, service))
    declare(kubectl, namespace, "shrinking")
    eventually(
        lambda: names(children(get, service)),
        lambda found: "HorizontalPodAutoscaler/shrinking-inference" not in found,
        REPAIR,
        "the autoscaler's end",
    )


def test_replicas_stay_when_the_autoscaler_takes_over_and_hands_back(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    three = {"resources": SMALL, "replicas": 3}
    service = declare(kubectl, namespace, "handed", gateway=three)
    deployment = ("deployment/handed-gateway", "-n", namespace)
    eventually(lambda: get(*deployment)["spec"]["replicas"], lambda count: count == 3, 30, "three replicas")

    seen = set()

    def scaler_is_there() -> bool:
        seen.add(get(*deployment)["spec"]["replicas"])
        return "HorizontalPodAutoscaler/handed-gateway" in names(children(get, service))

    autoscaled = {"resources": SMALL, "autoscaling": {**AUTOSCALING, "minReplicas": 3, "maxReplicas": 4}}
    declare(kubectl, namespace, "handed", gateway=autoscaled)
    eventually(scaler_is_there, lambda there: there, 20, "the autoscaler")
    declare(kubectl, namespace, "handed", gateway=three)
    eventually(scaler_is_there, lambda there: not there, 20, "the autoscaler's end")
    seen.add(get(*deployment)["spec"]["replicas"])
    assert seen == {3}


def test_a_foreign_object_of_the_same_name_is_left_alone_until_it_is_gone(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    kubectl("create", "service", "clusterip", "taken-gateway", "--tcp=1:1", "-n", namespace)
    foreign = get("service/taken-gateway", "-n", namespace)
    service = declare(kubectl, namespace, "taken")
    condition = service.wait("Reconciled", "False", "NameConflict", within=30)
    assert "Service taken-gateway" in condition["message"]
    assert get("service/taken-gateway", "-n", namespace) == foreign
    assert not [name for name in names(children(get, service)) if name.startswith("Deployment/")]
    kubectl("delete", "service", "taken-gateway", "-n", namespace)
    service.wait("Reconciled", "True", within=60)


def test_deleting_a_service_leaves_nothing(kubectl: Command, get: Get, namespace: str) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "leaving", inference={"resources": SMALL, "autoscaling": AUTOSCALING})
    service.wait("Reconciled", "True")
    kubectl("delete", "polyglotservice", "leaving", "-n", namespace)
    eventually(lambda: children(get, service), lambda found: not found, 30, "no children")
    eventually(lambda: service.pods("gateway") + service.pods("inference"), lambda found: not found, 60, "no pods")


def test_a_missing_source_is_told_and_heals_and_what_runs_keeps_running(
    kubectl: Command, get: Get, namespace: str
) -> None:
    service = declare(kubectl, namespace, "waiting")
    condition = service.wait("Accepted", "False", "SourceMissing", within=30)
    assert "ConfigMap digits-model" in condition["message"]
    assert children(get, service) == []
    add_model(kubectl, namespace)
    service.wait_ready()

    running = {pod["metadata"]["uid"] for pod in service.pods("inference")}
    declare(kubectl, namespace, "waiting", source="digits-model-2")
    service.wait("Accepted", "False", "SourceMissing", within=40)
    assert service.condition("Ready")["reason"] == "SourceMissing"
    assert service.condition("Available")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in service.pods("inference")} == running
    declare(kubectl, namespace, "waiting")
    service.wait_ready()
    assert {pod["metadata"]["uid"] for pod in service.pods("inference")} == running


def test_a_model_that_fails_to_load_is_told_in_the_servers_words(kubectl: Command, namespace: str) -> None:
    kubectl("create", "configmap", "broken", "-n", namespace, "--from-literal=model.onnx=no model")
    service = declare(kubectl, namespace, "broken", source="broken")
    condition = service.wait("Available", "False", "ModelFailed", within=60)
    assert "digits" in condition["message"]
    events = eventually(
        lambda: json.loads(kubectl("get", "events", "-n", namespace, "-o", "json"))["items"],
        lambda found: any(event["reason"] == "ModelFailed" for event in found),
        10,
        "an event",
    )
    assert len([e for e in events if e["reason"] == "ModelFailed" and e["action"] == "Available"]) == 1
    add_model(kubectl, namespace)
    declare(kubectl, namespace, "broken")
    service.wait_ready()


def test_pods_that_a_quota_refuses_are_told_and_come_when_it_is_raised(kubectl: Command, namespace: str) -> None:
    add_model(kubectl, namespace)
    kubectl("create", "quota", "tight", "--hard=pods=0", "-n", namespace)
    service = declare(kubectl, namespace, "squeezed")
    condition = service.wait("Available", "False", "PodCreationRefused", within=30)
    assert "exceeded quota" in condition["message"]
    kubectl("delete", "quota", "tight", "-n", namespace)
    service.wait("Available", "True")


def test_more_accelerators_than_there_are_is_told_with_the_counts(kubectl: Command, namespace: str) -> None:
    add_model(kubectl, namespace)
    accelerator = {"resourceName": "nvidia.com/gpu", "count": 64}
    service = declare(kubectl, namespace, "greedy", inference={"resources": SMALL, "accelerator": accelerator})
    condition = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=30)
    assert "wait for 64 nvidia.com/gpu each" in condition["message"]
    assert " are free, at most " in condition["message"]


def test_a_service_beside_one_whose_children_it_could_be_mistaken_for_keeps_its_own(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    short, long = declare(kubectl, namespace, "a"), declare(kubectl, namespace, "a-gateway")
    for service in (short, long):
        service.wait("Reconciled", "True")
    assert not names(children(get, short)) & names(children(get, long))


def test_an_invalid_service_is_refused_by_the_api_server(kubectl: Command, namespace: str) -> None:
    with pytest.raises(CommandError, match=r"replicas and autoscaling"):
        declare(kubectl, namespace, "torn", gateway={"resources": SMALL, "replicas": 1, "autoscaling": AUTOSCALING})
