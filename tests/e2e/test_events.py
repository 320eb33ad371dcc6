"""Kubernetes Events of a service: one for each transition of a condition, none while a state lasts."""

from __future__ import annotations

import uuid

import pytest

from tests.e2e.cluster import Command, eventually
from tests.e2e.operator_pod import OperatorPod
from tests.e2e.services import REPAIR, SMALL, Get, Object, Service, add_model, declare

Transition = tuple[str, str, str]
"""Action, reason and type of an event: the condition, its new reason, Normal or Warning."""

NEEDS_SECRET: Object = {
    "inference": {
        "resources": SMALL,
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "later", "key": "token"}}}],
    }
}


def events(get: Get, service: Service) -> list[Object]:
    """Return the operator's events about a service in the order in which they were posted."""
    uid = service.read()["metadata"]["uid"]
    found = get("events.events.k8s.io", "-n", service.namespace)["items"]
    return sorted((event for event in found if event["regarding"].get("uid") == uid), key=lambda e: e["eventTime"])


def told(get: Get, service: Service) -> list[Transition]:
    return [(event["action"], event["reason"], event["type"]) for event in events(get, service)]


def assert_told(get: Get, service: Service, expected: list[Transition]) -> None:
    """Compare all events with those expected; they are posted right after the status was written."""
    seen = eventually(lambda: told(get, service), lambda seen: len(seen) >= len(expected), 5, f"{len(expected)} events")
    assert seen == expected


def reconcile_again(kubectl: Command, get: Get, service: Service, times: int) -> None:
    """Touch the service and delete a child, and wait until it is back: then the service was surely reconciled."""
    budget = (f"poddisruptionbudget/{service.name}-gateway", "-n", service.namespace)
    deleted = []
    for _ in range(times):
        kubectl("annotate", "polyglotservice", service.name, "-n", service.namespace, f"example.com/{uuid.uuid4()}=x")
        deleted.append(get(*budget)["metadata"]["uid"])
        kubectl("delete", *budget)
        eventually(lambda: get(*budget)["metadata"]["uid"] not in deleted, bool, REPAIR, "a repair")


def test_each_transition_is_one_event_and_a_state_that_lasts_makes_none(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "told")
    service.wait_ready()
    expected = [("Available", "Available", "Normal"), ("Ready", "Ready", "Normal")]
    assert_told(get, service, expected)
    reconcile_again(kubectl, get, service, 3)
    assert_told(get, service, expected)

    declare(kubectl, namespace, "told", source="absent")
    service.wait("Ready", "False", "SourceMissing")
    expected += [
        ("Accepted", "SourceMissing", "Warning"),
        ("Reconciled", "NotAccepted", "Normal"),
        ("Ready", "SourceMissing", "Warning"),
    ]
    assert_told(get, service, expected)
    declare(kubectl, namespace, "told")
    service.wait_ready()
    expected += [
        ("Accepted", "Accepted", "Normal"),
        ("Reconciled", "Reconciled", "Normal"),
        ("Ready", "Ready", "Normal"),
    ]
    assert_told(get, service, expected)

    declare(kubectl, namespace, "told", **NEEDS_SECRET)
    service.wait("Ready", "False", "ContainerConfigInvalid")
    expected += [("Ready", "RollingOut", "Normal"), ("Ready", "ContainerConfigInvalid", "Warning")]
    assert_told(get, service, expected)
    reconcile_again(kubectl, get, service, 3)
    assert_told(get, service, expected)
    kubectl("create", "secret", "generic", "later", "-n", namespace, "--from-literal=token=here")
    service.wait_ready()
    expected += [("Ready", "Ready", "Normal")]
    assert_told(get, service, expected)

    found = events(get, service)
    for event in found:
        regarding = event["regarding"]
        assert (regarding["kind"], regarding["namespace"], regarding["name"]) == ("PolyglotService", namespace, "told")
        assert event["reportingController"] == "polyglot.dev/polyglot-operator"
        assert event["note"]
        assert "series" not in event
        assert event.get("deprecatedCount", 1) == 1
    words = ", ".join(f"{action}:{reason}" for action, reason, _ in expected)
    print(f"{len(found)} events for {len(expected)} transitions, 0 for 6 reconciles without one: {words}")


@pytest.mark.disruptive
def test_a_restart_of_the_operator_repeats_no_event(
    kubectl: Command, get: Get, namespace: str, operator_pod: OperatorPod
) -> None:
    add_model(kubectl, namespace)
    services = [declare(kubectl, namespace, "calm"), declare(kubectl, namespace, "troubled", **NEEDS_SECRET)]
    calm, troubled = services
    calm.wait_ready()
    troubled.wait("Available", "False", "ContainerConfigInvalid")
    assert_told(get, calm, [("Available", "Available", "Normal"), ("Ready", "Ready", "Normal")])
    assert_told(get, troubled, [("Available", "ContainerConfigInvalid", "Warning")])
    before = [told(get, service) for service in services]
    operator_pod.restart()
    for service in services:
        reconcile_again(kubectl, get, service, 2)
    assert [told(get, service) for service in services] == before
    print(f"0 events after a restart, {sum(map(len, before))} before it")
