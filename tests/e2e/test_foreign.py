"""Objects of others that bear the names of our children, and services with names like each other."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from polyglot_operator.api.names import MAX_SERVICE_NAME
from polyglot_operator.cluster.kinds import CHILDREN, Ref
from tests.e2e.api import Api, is_refused
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import EVERYTHING, Get, Object, Service, add_model, all_children, children, declare, names

pytestmark = pytest.mark.core

POD = {"metadata": {"labels": {"app": "foreign"}}, "spec": {"containers": [{"name": "c", "image": "foreign:1"}]}}
SELECTOR = {"matchLabels": {"app": "foreign"}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "foreign"}
CONTENT: dict[str, Object] = {
    "ServiceAccount": {"automountServiceAccountToken": True},
    "ConfigMap": {"data": {"theirs": "1"}},
    "Service": {"spec": {"ports": [{"port": 1}], "selector": {"app": "foreign"}}},
    "AuthorizationPolicy": {"spec": {"selector": SELECTOR}},
    "Deployment": {"spec": {"replicas": 0, "selector": SELECTOR, "template": POD}},
    "PodDisruptionBudget": {"spec": {"selector": SELECTOR, "minAvailable": 1}},
    "HorizontalPodAutoscaler": {"spec": {"maxReplicas": 1, "scaleTargetRef": TARGET}},
}
"""What a foreign object of each kind may hold; the kinds stand for all in which a takeover could hurt."""
SERVICE_NAME = "kubernetes.io/service-name"
NEAR_THE_REPAIR = tuple(0.1 + 0.01 * step for step in range(20))
"""Seconds after a deletion around which the operator, which waits 0.2 s for more events, looks and then applies."""


@dataclass(frozen=True)
class Place:
    """The place of one child, which somebody else's object of that kind may take."""

    api: Api
    ref: Ref
    labels: dict[str, str]

    def take(self) -> Object:
        """Put the foreign object there; return the API server's answer."""
        metadata = {"name": self.ref.name, "namespace": self.ref.namespace, "labels": self.labels}
        kind = {"apiVersion": self.ref.kind.api_version, "kind": self.ref.kind.name}
        return self.api.create({**kind, "metadata": metadata, **CONTENT[self.ref.kind.name]})

    def is_ours(self) -> bool:
        """Tell whether the operator has applied what is there."""
        found = self.api.get(self.ref)
        return found is not None and any(
            entry["manager"].startswith("polyglot-") for entry in found["metadata"].get("managedFields", ())
        )

    def assert_untouched(self, foreign: Object) -> None:
        """Compare what is there with the object that was put there; controllers may have written its status."""
        found = self.api.get(self.ref)
        assert found is not None
        assert not self.is_ours()
        assert found["metadata"]["uid"] == foreign["metadata"]["uid"]
        for key in ("labels", "ownerReferences"):
            assert found["metadata"].get(key) == foreign["metadata"].get(key)
        for key in CONTENT[self.ref.kind.name]:
            assert found[key] == foreign[key]

    def free(self) -> float:
        """Delete the foreign object and wait for the child; return the seconds that it took."""
        self.api.delete(self.ref)
        freed = time.monotonic()
        eventually(self.is_ours, bool, 60, f"the return of {self.ref}")
        return time.monotonic() - freed


def place(api: Api, service: Service, kind: str, labels: dict[str, str] | None = None) -> Place:
    component = "gateway" if kind in {"ServiceAccount", "ConfigMap", "Service"} else "inference"
    found = next(known for known in CHILDREN if known.name == kind)
    return Place(api, Ref(found, service.namespace, f"{service.name}-{component}"), labels or {})


def ours(service: Service) -> dict[str, str]:
    """Return labels by which an object shows up in the operator's watches."""
    return {"app.kubernetes.io/managed-by": "polyglot-operator", "polyglot.dev/service": service.name}


@pytest.fixture(scope="module")
def standing(kubectl: Command, module_namespace: str) -> Service:
    """A service with every kind of child, whose children others try to replace."""
    add_model(kubectl, module_namespace)
    service = declare(kubectl, module_namespace, "standing", **EVERYTHING)
    service.wait_ready()
    return service


@pytest.mark.parametrize("kind", CONTENT)
def test_a_foreign_object_of_the_same_name_is_left_alone_until_it_is_gone(
    kubectl: Command, api: Api, get: Get, standing: Service, kind: str
) -> None:
    service = Service(kubectl, standing.namespace, f"taken-{kind.lower()}"[:MAX_SERVICE_NAME])
    taken = place(api, service, kind)
    foreign = taken.take()
    declare(kubectl, service.namespace, service.name, **EVERYTHING)
    condition = service.wait("Reconciled", "False", "NameConflict", within=30)
    assert str(taken.ref) in condition["message"]
    before_deployments = [known.name for known in CHILDREN].index(kind) < [k.name for k in CHILDREN].index("Deployment")
    started = {name for name in names(children(get, service)) if name.startswith("Deployment/")}
    assert not (before_deployments and started)
    taken.assert_untouched(foreign)
    seconds = taken.free()
    service.wait("Reconciled", "True", within=60)
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
    print(f"{kind}: named in the condition, untouched; healed {seconds:.1f} s after it was gone")


@pytest.mark.parametrize("visible", [True, False], ids=["visible", "invisible"])
@pytest.mark.parametrize("kind", CONTENT)
def test_a_foreign_object_that_takes_the_place_of_a_deleted_child_is_left_alone(
    api: Api, standing: Service, kind: str, visible: bool
) -> None:
    labels = {**ours(standing), "polyglot.dev/component": "inference"} if visible else {}
    taken = place(api, standing, kind, labels)
    api.delete(taken.ref)
    foreign = taken.take()
    assert not is_refused(foreign, 409)
    condition = standing.wait("Reconciled", "False", "NameConflict", within=30)
    assert str(taken.ref) in condition["message"]
    taken.assert_untouched(foreign)
    seconds = taken.free()
    standing.wait("Reconciled", "True", within=60)
    print(f"{kind}: untouched; healed {seconds:.1f} s after it was gone")


def test_an_object_that_appears_while_a_child_is_repaired_is_never_taken_over(api: Api, standing: Service) -> None:
    """The operator looks and then applies; whoever comes between the two keeps the place."""
    taken = place(api, standing, "ConfigMap", ours(standing))
    foreign_won = 0
    for pause in NEAR_THE_REPAIR:
        api.delete(taken.ref)
        time.sleep(pause)
        foreign = taken.take()
        if is_refused(foreign, 409):
            assert taken.is_ours()
        else:
            foreign_won += 1
            standing.wait("Reconciled", "False", "NameConflict", within=30)
            taken.assert_untouched(foreign)
            taken.free()
        standing.wait("Reconciled", "True", within=60)
    rounds = len(NEAR_THE_REPAIR)
    print(f"{rounds} races: {foreign_won} times the foreign object was there first, and was taken over 0 times")
    assert foreign_won


def test_a_service_with_the_longest_name_gets_every_child_and_is_ready(
    kubectl: Command, get: Get, module_namespace: str
) -> None:
    add_model(kubectl, module_namespace)
    name = "l" + "0-" * ((MAX_SERVICE_NAME - 2) // 2) + "n"
    assert len(name) == MAX_SERVICE_NAME
    service = declare(kubectl, module_namespace, name, **EVERYTHING)
    service.wait_ready()
    found = children(get, service)
    assert names(found) == all_children(name)
    kubectl("delete", "polyglotservice", name, "-n", module_namespace)
    longest = max(len(child["metadata"]["name"]) for child in found)
    print(f"a name of {len(name)} characters: Ready with {len(found)} children, the longest name has {longest}")


def test_services_whose_children_could_be_mistaken_for_each_others_keep_their_own(
    kubectl: Command, get: Get, module_namespace: str
) -> None:
    add_model(kubectl, module_namespace)
    services = [declare(kubectl, module_namespace, name) for name in ("a", "a-gateway", "a-inference")]
    for service in services:
        service.wait_ready()
    seen: set[str] = set()
    for service in services:
        found = names(children(get, service))
        assert not seen & found
        seen |= found
        for component in ("gateway", "inference"):
            slices = get("endpointslices", "-n", module_namespace, "-l", f"{SERVICE_NAME}={service.name}-{component}")
            backends = {end["targetRef"]["name"] for item in slices["items"] for end in item["endpoints"]}
            assert backends == {pod["metadata"]["name"] for pod in service.pods(component)}
    kubectl("delete", "polyglotservice", *(service.name for service in services), "-n", module_namespace)
    print(f"{len(services)} services: {len(seen)} children, none in common; each Service has its own pods alone")
