"""Drift: what is edited or deleted by hand is repaired within 10 s; what others own is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from polyglot_operator.api.groups import FIELD_MANAGER
from polyglot_operator.cluster.kinds import CHILDREN, SERVICE, Ref
from polyglot_operator.cluster.ownership import owned_digest, owns
from tests.e2e.api import APPLY, JSON_PATCH, MERGE, Api
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import ALL_CHILDREN, REPAIR, Object, Service, add_model, declare

pytestmark = pytest.mark.core

KINDS = {kind.name: kind for kind in CHILDREN}
REMOVED = object()
MANAGED_BY = "/metadata/labels/app.kubernetes.io~1managed-by"
SERVICE_LABEL = "/metadata/labels/polyglot.dev~1service"
OWNERS = "/metadata/ownerReferences"
POD = "/spec/template/spec"
CONTAINER = f"{POD}/containers/0"
ANYBODY = {"from": [{"source": {"namespaces": ["another"]}}]}
ABORT = {"abort": {"httpStatus": 500, "percentage": {"value": 100}}}

EDITS: dict[str, dict[str, Any]] = {
    "ServiceAccount/whole-gateway": {
        "/automountServiceAccountToken": True,
        MANAGED_BY: REMOVED,
        SERVICE_LABEL: "another",
        OWNERS: REMOVED,
        f"{OWNERS}/0/controller": False,
    },
    "ServiceAccount/whole-inference": {"/automountServiceAccountToken": REMOVED},
    "ConfigMap/whole-gateway": {
        "/data/gateway.yaml": "listen: {}",
        "/data": REMOVED,
        SERVICE_LABEL: REMOVED,
        OWNERS: REMOVED,
    },
    "Service/whole-inference": {
        "/spec/selector": {"app": "another"},
        "/spec/ports/0/targetPort": 1,
        "/spec/ports/0/appProtocol": REMOVED,
        "/spec/publishNotReadyAddresses": True,
    },
    "Service/whole-gateway": {"/spec/type": "NodePort", "/spec/ports/1": REMOVED, OWNERS: REMOVED},
    "PeerAuthentication/whole-inference": {
        "/spec/mtls/mode": "PERMISSIVE",
        "/spec/portLevelMtls": {"9000": {"mode": "DISABLE"}},
        "/spec/selector/matchLabels": {"app": "another"},
        "/spec/selector": REMOVED,
        OWNERS: REMOVED,
    },
    "PeerAuthentication/whole-gateway": {"/spec/mtls/mode": "DISABLE"},
    "DestinationRule/whole-inference": {
        "/spec/trafficPolicy/tls/mode": "DISABLE",
        "/spec/host": "elsewhere.example.com",
        "/spec/trafficPolicy/connectionPool": REMOVED,
        "/spec/subsets": [{"name": "all", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}],
    },
    "VirtualService/whole-inference": {
        "/spec/http/0/retries/attempts": 3,
        "/spec/http/0/fault": ABORT,
        "/spec/http/-": {"route": [{"destination": {"host": "elsewhere.example.com"}}]},
        "/spec/hosts/-": "elsewhere.example.com",
        "/spec/gateways": ["mesh", "outside"],
    },
    "AuthorizationPolicy/whole-inference": {
        "/spec/rules": [{}],
        "/spec/rules/-": ANYBODY,
        "/spec/action": "AUDIT",
        "/spec/selector": REMOVED,
        "/spec/rules/0/to": REMOVED,
    },
    "Telemetry/whole-telemetry": {
        "/spec/tracing/0/randomSamplingPercentage": 77,
        "/spec/tracing/0/disableSpanReporting": True,
        "/spec/accessLogging": [{"disabled": True}],
        "/spec/selector": REMOVED,
    },
    "Deployment/whole-gateway": {
        "/spec/replicas": 2,
        f"{POD}/hostNetwork": True,
        f"{POD}/hostPID": True,
        f"{POD}/automountServiceAccountToken": True,
        f"{POD}/serviceAccountName": "default",
        f"{POD}/securityContext/runAsNonRoot": False,
        f"{CONTAINER}/securityContext/readOnlyRootFilesystem": False,
        f"{CONTAINER}/securityContext/capabilities": REMOVED,
        f"{CONTAINER}/ports/1": REMOVED,
        f"{CONTAINER}/env/1": REMOVED,
        "/spec/template/metadata/labels/sidecar.istio.io~1inject": "false",
        "/metadata/annotations/polyglot.dev~1mesh": "None",
        OWNERS: REMOVED,
    },
    "Deployment/whole-inference": {
        f"{CONTAINER}/image": "example.com/another:1",
        f"{CONTAINER}/volumeMounts/0/readOnly": REMOVED,
        f"{CONTAINER}/livenessProbe": REMOVED,
    },
    "PodDisruptionBudget/whole-gateway": {
        "/spec/maxUnavailable": 3,
        "/spec/unhealthyPodEvictionPolicy": "IfHealthyBudget",
        "/spec/selector/matchLabels/polyglot.dev~1component": "another",
        OWNERS: REMOVED,
    },
    "HorizontalPodAutoscaler/whole-inference": {
        "/spec/maxReplicas": 9,
        "/spec/scaleTargetRef/name": "another",
        "/spec/metrics/0/containerResource/target/averageUtilization": 1,
        "/spec/behavior/scaleDown/selectPolicy": "Disabled",
    },
}
"""Edits by JSON pointer, at least three of owned fields for every kind of child, what guards the service first."""

SEIZURES: dict[str, Object] = {
    "ServiceAccount/whole-inference": {"automountServiceAccountToken": True},
    "ConfigMap/whole-inference": {"data": {"inference.yaml": "models: []"}},
    "Service/whole-gateway": {"spec": {"type": "NodePort"}},
    "PeerAuthentication/whole-inference": {"spec": {"mtls": {"mode": "DISABLE"}}},
    "AuthorizationPolicy/whole-inference": {"spec": {"rules": [ANYBODY]}},
    "Deployment/whole-gateway": {"spec": {"template": {"spec": {"hostNetwork": True}}}},
    "HorizontalPodAutoscaler/whole-inference": {"spec": {"maxReplicas": 7}},
}
"""Fields that another field manager takes by `kubectl apply --server-side --force-conflicts`."""

WAIT_FOR_EVER = ["/opt/venv/bin/python", "-c", "import threading; threading.Event().wait()"]


class Repairs:
    """Waits for repairs and keeps how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wait(self, what: str, read: Callable[[], Any], expected: Any) -> None:
        """Wait until `read` returns what is expected, for as long as drift may last."""
        began = time.monotonic()
        while (seen := read()) != expected:
            assert time.monotonic() - began < REPAIR, f"{what} after {REPAIR:g} s: {seen}\nexpected: {expected}"
            time.sleep(0.05)
        self.seconds[what] = time.monotonic() - began
        print(f"{what}: repaired in {self.seconds[what]:.2f} s")


@pytest.fixture(scope="module")
def repairs() -> Iterator[Repairs]:
    """Collects the repairs of this file and names the slowest at its end."""
    found = Repairs()
    yield found
    slowest = max(found.seconds, key=lambda what: found.seconds[what])
    print(f"{len(found.seconds)} repairs, the slowest took {found.seconds[slowest]:.2f} s: {slowest}")


def reference(service: Service, child: str) -> Ref:
    kind, name = child.split("/")
    return Ref(KINDS[kind], service.namespace, name)


def existing(api: Api, ref: Ref) -> Object:
    found = api.get(ref)
    assert found is not None, ref
    return found


def content(obj: Object) -> Object:
    """Return everything that people write in an object, defaults included."""
    metadata = {key: obj["metadata"].get(key) for key in ("labels", "ownerReferences")}
    annotations = obj["metadata"].get("annotations", {})
    metadata["annotations"] = {key: annotations[key] for key in annotations if not key.startswith("deployment.")}
    rest = {key: value for key, value in obj.items() if key not in {"metadata", "status"}}
    return {"metadata": metadata, **rest}


def written(api: Api, ref: Ref) -> Object:
    """Return the content of an object, empty while there is none."""
    found = api.get(ref)
    return {} if found is None else content(found)


def edit(api: Api, ref: Ref, path: str, value: Any) -> Object:
    """Edit one place of an object by hand; return its content then."""
    operation = {"op": "remove"} if value is REMOVED else {"op": "add", "value": value}
    edited = api.send("PATCH", ref.path, [{**operation, "path": path}], JSON_PATCH)
    assert edited["kind"] == ref.kind.name, edited
    return content(edited)


def apply_as_another(api: Api, ref: Ref, metadata: Object | None = None, **fields: Object) -> Object:
    """Apply fields by force under another field manager; return the object's content then."""
    named = {"name": ref.name, "namespace": ref.namespace, **(metadata or {})}
    body = {"apiVersion": ref.kind.api_version, "kind": ref.kind.name, "metadata": named, **fields}
    applied = api.send("PATCH", f"{ref.path}?fieldManager=somebody&force=true", body, APPLY)
    assert applied["kind"] == ref.kind.name, applied
    return content(applied)


def test_every_kind_of_child_is_edited_in_three_places_or_more() -> None:
    counts = {kind: sum(len(EDITS[c]) for c in EDITS if c.startswith(f"{kind}/")) for kind in KINDS}
    assert min(counts.values()) >= 3
    print(f"{sum(counts.values())} edits of {len(counts)} kinds: {counts}")


@pytest.mark.parametrize("child", sorted(ALL_CHILDREN))
def test_a_deleted_child_comes_back(api: Api, meshed: Service, repairs: Repairs, child: str) -> None:
    ref = reference(meshed, child)
    before = existing(api, ref)
    api.delete(ref)

    def returned() -> tuple[bool, str]:
        found = api.get(ref)
        if found is None:
            return False, ""
        return found["metadata"]["uid"] != before["metadata"]["uid"], owned_digest(found)

    repairs.wait(f"{child} deleted", returned, (True, owned_digest(before)))


@pytest.mark.parametrize(("child", "path"), [(child, path) for child, edits in EDITS.items() for path in edits])
def test_an_edit_by_hand_is_undone(api: Api, meshed: Service, repairs: Repairs, child: str, path: str) -> None:
    ref = reference(meshed, child)
    before = content(existing(api, ref))
    assert edit(api, ref, path, EDITS[child][path]) != before
    repairs.wait(f"{child} {path}", partial(written, api, ref), before)


def test_an_edited_pin_does_not_lead_a_service_out_of_the_mesh(
    kubectl: Command, api: Api, module_namespace: str, repairs: Repairs
) -> None:
    """Mode Auto follows the annotation that pins its decision, so that one must not be enough."""
    add_model(kubectl, module_namespace)
    service = declare(kubectl, module_namespace, "pinned", mesh={"mode": "Auto"})
    service.wait_ready()
    strict = reference(service, "PeerAuthentication/pinned-inference")
    for child in ("Deployment/pinned-gateway", "Deployment/pinned-inference"):
        ref = reference(service, child)
        before = content(existing(api, ref))
        assert edit(api, ref, "/metadata/annotations/polyglot.dev~1mesh", "None") != before
        repairs.wait(f"{child} mesh annotation", partial(written, api, ref), before)
        assert existing(api, strict)["spec"]["mtls"] == {"mode": "STRICT"}
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)


@pytest.mark.parametrize("child", SEIZURES)
def test_a_field_that_another_manager_takes_by_force_is_taken_back(
    api: Api, meshed: Service, repairs: Repairs, child: str
) -> None:
    ref = reference(meshed, child)
    before = content(existing(api, ref))
    assert apply_as_another(api, ref, **SEIZURES[child]) != before
    repairs.wait(f"{child} seized", partial(written, api, ref), before)


@pytest.mark.parametrize("child", [next(c for c in EDITS if c.startswith(f"{kind}/")) for kind in KINDS])
def test_what_others_wrote_on_a_child_outlives_its_repair(
    api: Api, meshed: Service, repairs: Repairs, images: dict[str, str], child: str
) -> None:
    ref = reference(meshed, child)
    sidecar = {"name": "injected", "image": images["INFERENCE_IMAGE"], "command": WAIT_FOR_EVER}
    variable = {"name": "gateway", "env": [{"name": "INJECTED", "value": "1"}]}
    injected: dict[str, Object] = {
        "ConfigMap": {"data": {"theirs": "1"}},
        "Service": {"spec": {"sessionAffinity": "ClientIP"}},
        "Deployment": {"spec": {"minReadySeconds": 1, "template": {"spec": {"containers": [variable, sidecar]}}}},
    }
    metadata = {"annotations": {"example.com/note": "mine"}, "labels": {"example.com/team": "a"}}
    with_theirs = apply_as_another(api, ref, metadata=metadata, **injected.get(ref.kind.name, {}))
    path, value = next(iter(EDITS[child].items()))
    assert edit(api, ref, path, value) != with_theirs
    repairs.wait(f"{child} with fields of others", partial(written, api, ref), with_theirs)


def test_replicas_of_an_autoscaler_outlive_the_repair_of_its_deployment(
    api: Api, meshed: Service, repairs: Repairs
) -> None:
    raised = {"spec": {"inference": {"autoscaling": {"minReplicas": 2}}}}
    api.send("PATCH", Ref(SERVICE, meshed.namespace, meshed.name).path, raised, MERGE)
    ref = reference(meshed, "Deployment/whole-inference")
    eventually(lambda: existing(api, ref)["spec"]["replicas"], lambda count: count == 2, 60, "2 replicas by the HPA")
    before = written(api, ref)
    assert edit(api, ref, f"{CONTAINER}/livenessProbe", REMOVED) != before
    repairs.wait("Deployment/whole-inference at 2 replicas", partial(written, api, ref), before)
    assert not owns(existing(api, ref), ("spec", "replicas"), FIELD_MANAGER)
