"""What the spec no longer asks for goes; a deleted service leaves nothing."""

from __future__ import annotations

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import AUTOSCALING, REPAIR, SMALL, Get, add_model, children, declare, names


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


def test_deleting_a_service_leaves_nothing(kubectl: Command, get: Get, namespace: str) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "leaving", inference={"resources": SMALL, "autoscaling": AUTOSCALING})
    service.wait("Reconciled", "True")
    kubectl("delete", "polyglotservice", "leaving", "-n", namespace)
    eventually(lambda: children(get, service), lambda found: not found, 30, "no children")
    eventually(lambda: service.pods("gateway") + service.pods("inference"), lambda found: not found, 60, "no pods")
