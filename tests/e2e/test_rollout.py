"""Changes of a running service cost no call, and a pod that dies no more than the calls in flight on it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from typing import Any

import pytest

from tests.e2e.cluster import Command, eventually, node_of
from tests.e2e.load import CLIENTS, Load, forwarded
from tests.e2e.services import GATEWAY_METRICS, INFERENCES, SMALL, Object, Service, add_model, declare
from tests.e2e.watch import Event, watching

FEWEST_REQUESTS = 5000
FAIR = 0.2
"""The least share of the calls that one of three pods must get."""
SLOW = 2.5
"""Seconds; a bound of the gateway's histogram."""
METRICS = {"Istio": "15020/proxy/stats/prometheus", "None": "9001/proxy/metrics"}
"""Where an inference pod's metrics are read by way of the API server, by mesh mode."""


@pytest.fixture
def service(digits: Service) -> Iterator[Service]:
    """The digits service, as its example says again after the test."""
    yield digits
    digits.restore("digits/digits.yaml")


def patch(service: Service, spec: dict[str, Any]) -> None:
    """Change a service's spec and wait until all of it is as changed, and the last pod that leaves is gone."""
    changed = json.dumps({"spec": spec})
    service.kubectl("patch", "polyglotservice", service.name, "-n", service.namespace, "--type=merge", "-p", changed)
    service.wait_ready(within=90)
    words = ("get", "pods", "-n", service.namespace, "-l", f"polyglot.dev/service={service.name}", "-o", "name")
    pods = service.read()["spec"]["inference"].get("replicas", 1) + 1
    eventually(lambda: len(service.kubectl(*words).split()), pods.__eq__, within=60, what=f"{pods} pods")


def conditions(event: Event) -> dict[str, str]:
    return {found["type"]: found["status"] for found in event.object["status"]["conditions"]}


def distinct(events: list[Event], kind: str) -> list[str]:
    """Return the statuses that a condition went through."""
    return [status for status, _ in groupby(conditions(event)[kind] for event in events)]


def assert_judged_by_the_counts(events: list[Event]) -> None:
    """Hold each status, as soon as it is of its spec's generation, against the counts that it names itself."""
    for event in events:
        spec, status = event.object["spec"], event.object["status"]
        if status["observedGeneration"] != event.object["metadata"]["generation"]:
            continue
        floor = spec["inference"].get("replicas", 1)
        ready = {part: status[part]["readyReplicas"] for part in ("inference", "gateway")}
        enough = ready["inference"] >= max(1, floor - 1) and ready["gateway"] >= 1
        judged = conditions(event)
        assert judged["Available"] == str(enough), status
        if judged["Ready"] == "True":
            assert ready["inference"] >= floor, status


@pytest.mark.parametrize("component", ["inference", "gateway"])
def test_a_rollout_under_load_fails_no_call(context: str, service: Service, load: Load, component: str) -> None:
    env = [{"name": "ROLLED", "value": uuid.uuid4().hex}]
    with watching(context, "polyglotservice", service.name, "-n", service.namespace) as events:
        outcome = load.during(lambda: patch(service, {component: {"env": env}}), FEWEST_REQUESTS)
    print(f"rollout of {component}: {outcome}")
    assert outcome.failed == 0, outcome.failures
    assert outcome.requests >= FEWEST_REQUESTS
    assert distinct(events, "Available") == ["True"]
    assert distinct(events, "Ready") == ["True", "False", "True"]
    assert_judged_by_the_counts(events)


def test_scaling_under_load_fails_no_call_and_each_pod_gets_its_share_within_3_s(
    context: str, service: Service, load: Load
) -> None:
    seen: list[float] = []

    def up_and_down() -> None:
        patch(service, {"inference": {"replicas": 3}})
        seen.append(fair_since(service, "Istio") - became_ready(pods))
        patch(service, {"inference": {"replicas": 1}})

    selector = f"polyglot.dev/service={service.name},polyglot.dev/component=inference"
    with (
        watching(context, "polyglotservice", service.name, "-n", service.namespace) as events,
        watching(context, "pods", "-n", service.namespace, "-l", selector) as pods,
    ):
        outcome = load.during(up_and_down, FEWEST_REQUESTS)
    print(f"scaling 1 -> 3 -> 1: {outcome}; each of 3 pods had its share {seen[0]:.1f} s after the third was ready")
    assert outcome.failed == 0, outcome.failures
    assert outcome.requests >= FEWEST_REQUESTS
    assert seen[0] <= 3
    assert distinct(events, "Ready") == ["True", "False", "True"]
    assert_judged_by_the_counts(events)


def became_ready(events: list[Event]) -> float:
    """Return when the last of the pods was first seen ready."""
    first: dict[str, float] = {}
    for event in events:
        if is_ready(event.object):
            first.setdefault(event.object["metadata"]["name"], event.at)
    return max(first.values())


def is_ready(pod: Object) -> bool:
    found = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in found)


def fair_since(service: Service, mesh: str) -> float:
    """Wait until each pod gets its fair share of the calls of about a second; return when that second began."""
    samples = [(time.time(), calls_answered(service, mesh))]

    def fair(start: dict[str, float], end: dict[str, float]) -> bool:
        calls = [end[pod] - start[pod] for pod in start]
        return min(calls) >= FAIR * sum(calls) > 0

    def first_fair_second() -> float | None:
        samples.append((time.time(), calls_answered(service, mesh)))
        return next((at for (at, start), (_, end) in pairwise(samples[::2]) if fair(start, end)), None)

    at = eventually(first_fair_second, lambda found: found is not None, within=20, what="a fair share for each pod")
    assert at is not None
    return at


def calls_answered(service: Service, mesh: str) -> dict[str, float]:
    """Return how many calls each inference pod has answered, by the pods' own counters."""

    def count(pod: str) -> float:
        path = f"/api/v1/namespaces/{service.namespace}/pods/{pod}:{METRICS[mesh]}"
        lines = service.kubectl("get", "--raw", path).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("polyglot_inference_requests_total"))

    pods = [pod["metadata"]["name"] for pod in service.pods("inference")]
    with ThreadPoolExecutor() as pool:
        return dict(zip(pods, pool.map(count, pods), strict=True))


def slow_calls(service: Service, mesh: str) -> float:
    """Return how many inferences took a service's only gateway longer than `SLOW`."""
    (pod,) = service.pods("gateway")
    metric = "polyglot_gateway_request_duration_seconds"
    inferences = [
        sample for sample in service.samples(pod, GATEWAY_METRICS[mesh]) if sample.labels.get("route") in INFERENCES
    ]
    every = sum(sample.value for sample in inferences if sample.name == f"{metric}_count")
    quick = sum(
        sample.value
        for sample in inferences
        if sample.name == f"{metric}_bucket" and float(sample.labels["le"]) == SLOW
    )
    assert every > 0
    return every - quick


def force_delete(service: Service, pod: Object) -> None:
    words = ("delete", "pod", pod["metadata"]["name"], "-n", service.namespace, "--grace-period=0", "--force")
    service.kubectl(*words)


def vanish(context: str) -> Callable[[Service, Object], None]:
    """Return what takes a pod away without a word: processes and network are gone before the object."""
    node = node_of(context)

    def apply(service: Service, pod: Object) -> None:
        (sandbox,) = node("crictl", "pods", "--quiet", "--name", f"^{pod['metadata']['name']}$").split()
        node("crictl", "stopp", sandbox)  # codespell:ignore stopp
        force_delete(service, pod)

    return apply


@pytest.mark.parametrize("mesh", ["Istio", "None"])
def test_a_force_deleted_pod_fails_no_more_than_the_calls_in_flight_on_it(
    context: str, kubectl: Command, module_namespace: str, load: Load, mesh: str
) -> None:
    add_model(kubectl, module_namespace)
    three = {"resources": SMALL, "replicas": 3}
    service = declare(kubectl, module_namespace, f"killed-{mesh.lower()}", inference=three, mesh={"mode": mesh})
    service.wait_ready()
    # The gateway gives no pod more calls than any other has, plus one: what is under way is spread evenly.
    in_flight = -(-2 * CLIENTS // 3)
    ends = {"force-deleted": force_delete, "killed, then force-deleted": vanish(context)}
    ended: list[float] = []

    def kill_one_each_way() -> None:
        for end in ends.values():
            fair_since(service, mesh)
            end(service, service.pods("inference")[0])
            service.wait("Ready", "False")
            service.wait_ready()
            ended.append(time.time())

    with forwarded(context, service) as targets:
        outcome = load.during(kill_one_each_way, FEWEST_REQUESTS // 2, targets)
    first = sum(failure.began < ended[0] for failure in outcome.failures)
    failed = dict(zip(ends, (first, outcome.failed - first), strict=True))
    print(f"mesh {mesh}: {outcome}; failed by pod {failed}, of at most {in_flight} in flight on each")
    assert all(count <= in_flight for count in failed.values()), outcome.failures
    # By the gateway's clock too: if callers alone saw a long call, it was on the tunnel to the gateway.
    assert slow_calls(service, mesh) == 0
    assert outcome.longest < 3
