"""Why pods are not ready, told from pods of a real cluster."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from polyglot_operator.api.conditions import Reason
from polyglot_operator.reconcile.diagnosis import MAX_MESSAGE, diagnose, scheduling_problem

UNSCHEDULABLE = "full-inference-784745f4c6-ltwnb"
NOT_PULLED = "digits-gateway-5d57759cff-n2lrp"


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (
            NOT_PULLED,
            Reason.IMAGE_PULL_FAILED,
            'failed to pull and unpack image "registry.example/polyglot/gateway:dev"',
        ),
        ("no-secret", Reason.CONTAINER_CONFIG_INVALID, 'secret "absent" not found'),
        ("crash", Reason.CRASH_LOOPING, "flag provided but not defined: -no-such-flag (Error, exit status 1)"),
        (UNSCHEDULABLE, Reason.UNSCHEDULABLE, "Insufficient nvidia.com/gpu"),
    ],
)
def test_a_failure_is_told_in_the_words_of_who_saw_it(
    pods: dict[str, Any], pod: str, reason: Reason, words: str
) -> None:
    found = diagnose([pods[pod]])
    assert found.reason is reason
    assert words in found.message
    assert pod in found.message


def test_a_pull_that_fails_again_is_told_in_the_same_words(pods: dict[str, Any]) -> None:
    pod = copy.deepcopy(pods[NOT_PULLED])
    (status,) = pod["status"]["containerStatuses"]
    _, _, words = status["state"]["waiting"]["message"].partition("ErrImagePull: ")
    status["state"]["waiting"] = {"reason": "ErrImagePull", "message": words.replace(":60043->", ":41234->")}
    assert diagnose([pod]) == diagnose([pods[NOT_PULLED]])
    assert "172.18.0.1:53: read: connection refused" in diagnose([pod]).message


def test_refused_pods_are_told_from_the_deployment(refused_deployment_status: dict[str, Any]) -> None:
    found = diagnose([], refused_deployment_status["conditions"])
    assert found.reason is Reason.POD_CREATION_REFUSED
    assert "exceeded quota: q" in found.message


def test_pods_without_a_failure_are_starting() -> None:
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Pending"}}
    assert diagnose([pod]).reason is Reason.STARTING
    assert diagnose([]).reason is Reason.STARTING


def test_what_failed_outranks_what_waits_whatever_the_order(pods: dict[str, Any]) -> None:
    both = [pods[UNSCHEDULABLE], pods["crash"]]
    assert diagnose(both) == diagnose(both[::-1])
    assert diagnose(both).reason is Reason.CRASH_LOOPING


def ended(message: str, *, ready: bool = False, code: int = 1, container: str = "inference") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": "Error", "message": message}
    state = {"name": container, "ready": ready, "lastState": {"terminated": terminated}, "state": {"waiting": {}}}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [state]}}


def test_a_model_that_does_not_load_is_told_in_the_servers_last_words() -> None:
    log = "\n".join(
        json.dumps({"level": level, "message": message})
        for level, message in [("INFO", "State is Starting"), ("ERROR", "Cannot serve: model digits: no model.onnx")]
    )
    found = diagnose([ended(log)])
    assert found.reason is Reason.MODEL_FAILED
    assert found.message == "pod p, inference: model digits: no model.onnx"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"level":"ERROR","msg":"cannot listen"}', "cannot listen"),
        ("panic: oh\n\ngoroutine 1\n\n", "goroutine 1"),
        ("", "no last words"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_last_words_are_read_from_any_log(message: str, words: str) -> None:
    found = diagnose([ended(message, container="gateway")])
    assert found.reason is Reason.CRASH_LOOPING
    assert words in found.message


@pytest.mark.parametrize("pod", [ended("x", ready=True), ended("x", code=0)])
def test_a_container_that_serves_again_or_ended_well_is_no_failure(pod: dict[str, Any]) -> None:
    assert diagnose([pod]).reason is Reason.STARTING


def test_a_long_message_is_cut_to_what_a_condition_should_hold() -> None:
    assert len(diagnose([ended("x" * 10_000)]).message) == MAX_MESSAGE


def test_claims_that_are_not_bound_are_named(pods: dict[str, Any]) -> None:
    pod = copy.deepcopy(pods[UNSCHEDULABLE])
    (condition,) = (c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    condition["message"] = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    pod["spec"]["volumes"] = [{"emptyDir": {}}, *[{"persistentVolumeClaim": {"claimName": n}} for n in "aba"]]
    assert "with PersistentVolumeClaim a, PersistentVolumeClaim b: 0/1 nodes" in diagnose([pod]).message


def test_only_a_pod_the_scheduler_gave_up_on_has_a_scheduling_problem(pods: dict[str, Any]) -> None:
    assert scheduling_problem(pods["crash"]) is None
    assert "Insufficient nvidia.com/gpu" in (scheduling_problem(pods[UNSCHEDULABLE]) or "")
