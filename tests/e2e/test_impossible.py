"""Specs that are valid and can not be honoured: told by condition and reason, healed without a restart."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Command, eventually
from tests.e2e.operator_pod import OperatorPod, Pod
from tests.e2e.services import EXAMPLES, SMALL, Get, Object, Service, add_model, children, declare

TOLD = 30.0
"""Seconds within which a condition must tell what can't be honoured."""

NOWHERE = "127.0.0.1:1"
"""A registry that refuses connections at once, wherever the node pulls from."""

PRIORITY = f"later-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Case:
    """An edit of a service that runs.

    `words` must be in the message; `missing` is created to put it right, otherwise the edit is taken back.
    """

    name: str
    reason: str
    words: tuple[str, ...]
    edit: Object
    missing: Object | None = field(default=None)


def served(source: Object, kind: str = "ONNX") -> Object:
    return {"models": [{"name": "digits", "format": kind, "source": source}]}


def inference(**fields: Any) -> Object:
    return {"inference": {"resources": SMALL, **fields}}


def named(kind: str, name: str, api_version: str = "v1", **fields: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


MODEL = yaml.safe_load((EXAMPLES / "digits" / "model.yaml").read_text())
TOKEN = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "later", "key": "token"}}}
LIMITS = {"limits": [{"type": "Container", "min": {"cpu": "5m"}}]}
CLAIM = {
    "storageClassName": "absent",
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Mi"}},
}
GIVEN = (
    named("ConfigMap", "no-onnx", data={"model.onnx": "no model"}),
    named("ConfigMap", "no-python", data={"model.py": "raise RuntimeError('no weights here')"}),
    named("ConfigMap", "other-file", data={"weights.onnx": "by another name"}),
    named("PersistentVolumeClaim", "unbound", spec=CLAIM),
    named("LimitRange", "least", spec=LIMITS),
)
CASES = (
    Case("model-fails", "ModelFailed", ("'digits'",), served({"configMap": {"name": "no-onnx"}})),
    Case(
        "python-raises",
        "ModelFailed",
        ("'digits'", "RuntimeError: no weights here"),
        served({"configMap": {"name": "no-python"}}, "Python"),
    ),
    Case(
        "file-missing",
        "ModelFailed",
        ("'digits'", "model.onnx does not exist"),
        served({"configMap": {"name": "other-file"}}),
    ),
    Case(
        "config-map-missing",
        "SourceMissing",
        ("ConfigMap later not found; create it or correct",),
        served({"configMap": {"name": "later"}}),
        {**MODEL, "metadata": {"name": "later"}},
    ),
    Case(
        "claim-missing",
        "SourceMissing",
        ("PersistentVolumeClaim absent not found; create it or correct",),
        served({"persistentVolumeClaim": {"claimName": "absent"}}),
    ),
    Case(
        "claim-unbound",
        "Unschedulable",
        ("with PersistentVolumeClaim unbound", "unbound immediate PersistentVolumeClaims"),
        served({"persistentVolumeClaim": {"claimName": "unbound"}}),
    ),
    Case(
        "model-image-missing",
        "ImagePullFailed",
        (f"{NOWHERE}/model:1", "connection refused"),
        served({"image": {"reference": f"{NOWHERE}/model:1"}}),
    ),
    Case(
        "image-missing",
        "ImagePullFailed",
        (f"{NOWHERE}/server:1", "connection refused"),
        inference(image=f"{NOWHERE}/server:1"),
    ),
    Case("secret-missing", "ContainerConfigInvalid", ('secret "later" not found',), inference(env=[TOKEN]),
         named("Secret", "later", stringData={"token": "here"})),
    Case(
        "priority-class-missing",
        "PodCreationRefused",
        (f"no PriorityClass with name {PRIORITY}",),
        inference(scheduling={"priorityClassName": PRIORITY}),
        named("PriorityClass", PRIORITY, "scheduling.k8s.io/v1", value=1),
    ),
    Case(
        "runtime-class-missing",
        "PodCreationRefused",
        ('RuntimeClass "absent" not found',),
        {"gateway": {"resources": SMALL, "scheduling": {"runtimeClassName": "absent"}}},
    ),
    Case(
        "below-limit-range",
        "PodCreationRefused",
        ("minimum cpu usage per Container is 5m, but request is 1m",),
        inference(resources={"requests": {"cpu": "1m"}}),
    ),
)  # fmt: skip
FROM_THE_START = {"claim-unbound", "model-image-missing", "image-missing", "secret-missing"}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@dataclass(frozen=True)
class Told:
    """What was seen of a service after its edit."""

    seconds: float
    ready: Object
    available: str
    ran: set[str]
    runs: set[str]


def conditions(service: Object) -> dict[str, Object]:
    """Return the conditions that judge the current generation, by type."""
    found = service.get("status", {}).get("conditions", [])
    generation = service["metadata"]["generation"]
    return {c["type"]: c for c in found if c["observedGeneration"] == generation}


def ready_pods(service: Service) -> set[str]:
    pods = [pod for component in ("inference", "gateway") for pod in service.pods(component)]
    return {
        pod["metadata"]["uid"]
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    }


@pytest.fixture(scope="module")
def operator_before(operator_pod: OperatorPod) -> Pod:
    """The operator's pod before anything went wrong."""
    return operator_pod.wait()


@pytest.fixture(scope="module")
def running(kubectl: Command, module_namespace: str, operator_before: Pod) -> Iterator[dict[str, Service]]:
    """A service for each case, all of them Ready."""
    add_model(kubectl, module_namespace)
    for given in GIVEN:
        kubectl("apply", "-n", module_namespace, "-f", "-", stdin=json.dumps(given))
    services = {case.name: declare(kubectl, module_namespace, case.name) for case in CASES}
    for service in services.values():
        service.wait_ready()
    yield services
    kubectl("delete", "priorityclass", PRIORITY, "--ignore-not-found")


@pytest.fixture(scope="module")
def told(kubectl: Command, get: Get, running: dict[str, Service]) -> dict[str, Told]:
    """Make every edit; return what was told about it, for those where that was what is wrong."""
    namespace = running[CASES[0].name].namespace
    ran = {name: ready_pods(service) for name, service in running.items()}
    edited = {}
    for case in CASES:
        declare(kubectl, namespace, case.name, **case.edit)
        edited[case.name] = time.monotonic()
    reasons = {case.name: case.reason for case in CASES}
    found: dict[str, Told] = {}
    deadline = time.monotonic() + 2 * TOLD
    while len(found) < len(CASES) and time.monotonic() < deadline:
        for body in get("polyglotservices", "-n", namespace)["items"]:
            name, seen = body["metadata"]["name"], conditions(body)
            ready = seen.get("Ready", {})
            if name not in found and ready.get("status") == "False" and ready["reason"] == reasons.get(name):
                runs = ready_pods(running[name])
                seconds = time.monotonic() - edited[name]
                found[name] = Told(seconds, ready, seen["Available"]["status"], ran[name], runs)
    return found


@each_case
def test_an_edit_that_can_not_be_honoured_is_told_within_30_s_and_what_runs_keeps_running(
    case: Case, told: dict[str, Told]
) -> None:
    assert case.name in told, f"{case.reason} was not told within {2 * TOLD:g} s"
    seen = told[case.name]
    print(f"{case.name}: {case.reason} after {seen.seconds:.1f} s: {seen.ready['message']}")
    assert [words for words in case.words if words not in seen.ready["message"]] == []
    assert seen.seconds < TOLD
    assert seen.available == "True"
    assert len(seen.ran) == 2
    assert seen.ran <= seen.runs


def wait_told(service: Service, kind: str, reason: str) -> Object:
    """Wait until a condition is False for a reason, for as long as was promised; return it."""
    began = time.monotonic()
    condition = service.wait(kind, "False", reason, within=TOLD)
    print(f"{service.name}: {kind}=False {reason} after {time.monotonic() - began:.1f} s: {condition['message']}")
    return condition


@pytest.mark.parametrize("case", [case for case in CASES if case.name in FROM_THE_START], ids=lambda case: case.name)
def test_a_new_service_that_can_not_start_says_why(case: Case, kubectl: Command, running: dict[str, Service]) -> None:
    service = declare(kubectl, running[case.name].namespace, f"new-{case.name}", **case.edit)
    condition = wait_told(service, "Available", case.reason)
    assert [words for words in case.words if words not in condition["message"]] == []
    assert service.condition("Ready")["reason"] == case.reason


def test_a_failure_that_lasts_is_not_written_again_however_it_is_worded(
    get: Get, told: dict[str, Told], running: dict[str, Service]
) -> None:
    namespace = running[CASES[0].name].namespace

    def versions() -> dict[str, str]:
        found = get("polyglotservices", "-n", namespace)["items"]
        return {body["metadata"]["name"]: body["metadata"]["resourceVersion"] for body in found}

    def words() -> set[str]:
        pods = [pod for name in ("image-missing", "model-image-missing") for pod in running[name].pods("inference")]
        states = [status["state"] for pod in pods for status in pod["status"]["containerStatuses"]]
        return {state["waiting"]["message"] for state in states if "message" in state.get("waiting", {})}

    def settled() -> bool:
        before = versions()
        time.sleep(6)  # counts are written every 5 s
        return versions() == before

    eventually(settled, bool, 60, "a status that is complete")
    before, began, heard = versions(), time.monotonic(), [words()]
    while len(heard) < 3 or time.monotonic() - began < 20:
        assert time.monotonic() - began < 120, heard
        if (now := words()) != heard[-1]:
            heard.append(now)
        assert versions() == before
    seconds = time.monotonic() - began
    print(f"0 writes to {len(before)} failing services in {seconds:.0f} s; pulls were worded in {len(heard)} ways")


@pytest.fixture(scope="module")
def healed(  # noqa: PLR0917
    kubectl: Command,
    get: Get,
    told: dict[str, Told],
    running: dict[str, Service],
    operator_pod: OperatorPod,
    operator_before: Pod,
) -> dict[str, float]:
    """Put every case right; return the seconds until each was Ready again, by the same process of the operator."""
    namespace = running[CASES[0].name].namespace
    fixed = {}
    for case in CASES:
        if case.missing is None:
            declare(kubectl, namespace, case.name)
        else:
            kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(case.missing))
        fixed[case.name] = time.monotonic()
    found: dict[str, float] = {}
    deadline = time.monotonic() + 300
    while len(found) < len(CASES) and time.monotonic() < deadline:
        for body in get("polyglotservices", "-n", namespace)["items"]:
            name = body["metadata"]["name"]
            if name in fixed and name not in found and conditions(body).get("Ready", {}).get("status") == "True":
                found[name] = time.monotonic() - fixed[name]
    assert operator_pod.read() == operator_before
    return found


@each_case
def test_the_fix_heals_without_a_restart_of_the_operator(
    case: Case, told: dict[str, Told], healed: dict[str, float], running: dict[str, Service]
) -> None:
    assert case.name in healed, "not Ready within 300 s"
    remedy = "the edit was taken back" if case.missing is None else f"the {case.missing['kind']} was created"
    print(f"{case.name}: Ready {healed[case.name]:.1f} s after {remedy}")
    if case.missing is None:
        assert ready_pods(running[case.name]) == told[case.name].ran


@pytest.mark.core
def test_a_missing_source_is_told_and_heals_and_what_runs_keeps_running(
    kubectl: Command, get: Get, namespace: str
) -> None:
    service = declare(kubectl, namespace, "waiting")
    condition = wait_told(service, "Accepted", "SourceMissing")
    assert "ConfigMap digits-model" in condition["message"]
    assert children(get, service) == []
    add_model(kubectl, namespace)
    service.wait_ready()

    running = {pod["metadata"]["uid"] for pod in service.pods("inference")}
    declare(kubectl, namespace, "waiting", source="digits-model-2")
    wait_told(service, "Accepted", "SourceMissing")
    assert service.condition("Ready")["reason"] == "SourceMissing"
    assert service.condition("Available")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in service.pods("inference")} == running
    declare(kubectl, namespace, "waiting")
    service.wait_ready()
    assert {pod["metadata"]["uid"] for pod in service.pods("inference")} == running


@pytest.mark.core
def test_a_model_that_fails_to_load_is_told_in_the_servers_words(kubectl: Command, namespace: str) -> None:
    kubectl("create", "configmap", "broken", "-n", namespace, "--from-literal=model.onnx=no model")
    service = declare(kubectl, namespace, "broken", source="broken")
    condition = wait_told(service, "Available", "ModelFailed")
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


@pytest.mark.core
def test_pods_that_a_quota_refuses_are_told_and_come_when_it_is_raised(kubectl: Command, namespace: str) -> None:
    add_model(kubectl, namespace)
    kubectl("create", "quota", "tight", "--hard=pods=0", "-n", namespace)
    service = declare(kubectl, namespace, "squeezed")
    condition = wait_told(service, "Available", "PodCreationRefused")
    assert "exceeded quota" in condition["message"]
    kubectl("delete", "quota", "tight", "-n", namespace)
    service.wait("Available", "True")
