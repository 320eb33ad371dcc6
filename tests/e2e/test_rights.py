"""The operator's rights: what its role grants is what it uses, verb by verb, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polyglot_operator.cluster.kinds import CHILDREN, PRUNABLE
from tests.e2e.audit import AuditLog
from tests.e2e.cluster import Command
from tests.e2e.kwok import FakeNodes
from tests.e2e.operator_pod import OperatorPod
from tests.e2e.services import EVERYTHING, SMALL, Get, add_model, children, declare

Right = tuple[str, str, str]

CLUSTER_ROLE = "polyglot-system-polyglot-operator"
ROLE = "polyglot-operator"


ACCELERATOR = {"resourceName": "nvidia.com/gpu", "count": 16}
CLAIM = {"persistentVolumeClaim": {"claimName": "missing"}}


@pytest.fixture
def live(kubectl: Command, get: Get, namespace: str, fake_nodes: FakeNodes) -> Callable[[], None]:
    """Lead services through everything that an operator reacts to."""

    def run() -> None:
        add_model(kubectl, namespace)
        whole = declare(kubectl, namespace, "whole", **fake_nodes.spec(**EVERYTHING))
        whole.wait_ready()
        assert {obj["kind"] for obj in children(get, whole)} == {kind.name for kind in CHILDREN}
        declare(kubectl, namespace, "whole", **fake_nodes.spec()).wait("MeshReady", "True", "MeshDisabled")
        assert not {obj["kind"] for obj in children(get, whole)} & {kind.name for kind in PRUNABLE}

        greedy = declare(kubectl, namespace, "greedy", inference={"resources": SMALL, "accelerator": ACCELERATOR})
        greedy.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators")
        claim: Any = {"models": [{"name": "digits", "format": "ONNX", "source": CLAIM}]}
        declare(kubectl, namespace, "claimed", **claim).wait("Accepted", "False", "SourceMissing")
        kubectl("delete", "polyglotservices", "--all", "-n", namespace)

    return run


@pytest.mark.core
@pytest.mark.disruptive
def test_rights_granted_are_rights_used(
    get: Get, audit: AuditLog, namespace: str, operator_pod: OperatorPod, live: Callable[[], None]
) -> None:
    mark = audit.mark()
    operator_pod.restart()  # some are needed at the start alone
    live()

    requests = [request for request in audit.since(mark) if request.resource]
    refused = [request for request in requests if not request.authorized]
    used = {right for request in requests for right in request.rights}
    granted = rights(get, namespace)
    print(f"{len(granted)} rights granted, {len(used)} used by {len(requests)} requests, {len(refused)} refused")
    assert refused == []
    assert used == granted


def rights(get: Get, namespace: str) -> set[Right]:
    """Return what the operator's role allows in a namespace: its ClusterRole, or a Role where it has none."""
    role = next((found for found in get("clusterroles")["items"] if found["metadata"]["name"] == CLUSTER_ROLE), None)
    rules = (role or get("role", ROLE, "-n", namespace))["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
