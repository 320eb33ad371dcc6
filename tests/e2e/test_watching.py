"""The operator in namespaced mode: what it serves, what it leaves alone, and that its roles suffice."""

from __future__ import annotations

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.cluster import Command, eventually
from tests.e2e.modes import NamespacedMode, fresh_namespace
from tests.e2e.services import EVERYTHING, Get, add_model, all_children, children, declare, names

NAMESPACED = pytest.mark.parametrize("mode", [pytest.param("namespaced", marks=pytest.mark.disruptive)], indirect=True)


@NAMESPACED
def test_a_service_outside_of_the_served_namespaces_stays_untouched(
    kubectl: Command, get: Get, audit: AuditLog, mode: NamespacedMode, namespace: str
) -> None:
    outside, mark = fresh_namespace(kubectl), audit.mark()
    for place in (outside, namespace):
        add_model(kubectl, place)
    untouched = declare(kubectl, outside, "whole", **EVERYTHING)
    served = declare(kubectl, namespace, "whole", **EVERYTHING)
    served.wait_ready()
    assert names(children(get, served)) == all_children("whole")
    assert children(get, untouched) == []
    assert "conditions" not in untouched.read().get("status", {})
    requests = audit.since(mark)
    assert not [request for request in requests if request.namespace == outside]
    kubectl("delete", "namespace", outside, "--wait=false")
    print(f"{len(requests)} requests, 0 of them about the namespace that is not served")


@NAMESPACED
def test_what_only_cluster_mode_may_read_is_told_as_unknown(
    kubectl: Command, mode: NamespacedMode, namespace: str
) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "whole", **EVERYTHING)
    service.wait_ready()
    assert service.read()["status"]["capabilities"]["tracingProvider"] == "Unknown"
    assert "whether it traces is unknown" in service.condition("MeshReady")["message"]


@NAMESPACED
def test_no_request_of_the_operator_is_refused_in_namespaced_mode(mode: NamespacedMode) -> None:
    """Judges all core tests that ran before, and at least one round of looking for what the cluster can do."""
    eventually(
        lambda: [request for request in mode.requests() if request.uri == "/apis" and request.verb == "get"],
        lambda rounds: len(rounds) >= 2,
        150,
        "two looks at what the cluster can do",
    )
    requests = mode.requests()
    assert [request for request in requests if not request.authorized] == []
    used = {right for request in requests for right in request.rights}
    print(f"{len(requests)} requests with {len(used)} rights in {len(mode.namespaces)} namespaces, none was refused")
