"""Specs that are valid and can not be honoured: told by condition and reason, healed without a restart."""

from __future__ import annotations

import json

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import Get, add_model, children, declare


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
