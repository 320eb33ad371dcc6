"""The HPA that the operator writes rides a real load; replicas never drop when they change hands."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests import digits as example
from tests.e2e.audit import AuditLog
from tests.e2e.clients import ClientPods
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import AUTOSCALING, SMALL, Get, Object, Service, add_model, children, declare
from tests.e2e.watch import Event, ready_replicas, verdicts, watching

LOADED = {"requests": {"cpu": "50m", "memory": "64Mi"}}
RIDE = {
    "minReplicas": 1,
    "maxReplicas": 2,
    "metrics": [{"type": "CPU", "averageUtilization": 100}],
    "scaleDownStabilizationSeconds": 15,
}
LOAD = """
import http.client, json, os, threading, time
end = time.monotonic() + 240
calls, failed = [], []
def call():
    connection = http.client.HTTPConnection({host!r}, 8000, timeout=15)
    while time.monotonic() < end and len(calls) < 100_000 and not os.path.exists("/tmp/stop"):
        try:
            connection.request("POST", {path!r}, {body!r})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                failed.append([answer.status, text.decode()])
        except (OSError, http.client.HTTPException) as error:
            failed.append(["no answer", repr(error)])
            connection.close()
        calls.append(None)
        time.sleep(0.2 if os.path.exists("/tmp/ease") else 0.005)
threads = [threading.Thread(target=call) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps({{"calls": len(calls), "failed": failed, "ended": time.monotonic() >= end}}))
"""
"""Four callers in a client pod: 5 ms between calls, 200 ms once /tmp/ease is there, until /tmp/stop or 240 s."""


def test_the_autoscaler_rides_a_real_load_up_and_down(
    kubectl: Command, context: str, get: Get, audit: AuditLog, client_pods: ClientPods
) -> None:
    namespace = client_pods.namespace
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "ridden", inference={"resources": LOADED, "autoscaling": RIDE})
    client = client_pods.start("ridden-client", mesh=False)
    service.wait_ready()
    eventually(lambda: judgement(get, service), is_idle, 120, "one replica, by an idle container's metrics")

    host = f"ridden-gateway.{namespace}.svc.cluster.local"
    body = json.dumps(example.rest_body(example.held_out()[:5]))
    script = LOAD.format(host=host, path="/v2/models/digits/infer", body=body)
    mark = audit.mark()
    with (
        ThreadPoolExecutor(1) as pool,
        watching(context, "polyglotservice", "ridden", "-n", namespace) as judged,
        watching(context, "deployment", "-n", namespace, "-l", "polyglot.dev/service=ridden") as scaled,
    ):
        began = time.time()
        load = pool.submit(client.python, script, timeout=260)
        try:
            grown = await_ready_pods(scaled, 2, after=began)
            eased = time.time()
            client.python("open('/tmp/ease', 'w')")
            shrunk = await_ready_pods(scaled, 1, after=grown)
        finally:
            client.python("open('/tmp/stop', 'w')")
        outcome = json.loads(load.result())

    assert not outcome["ended"], "the load ended before the ride"
    assert outcome["failed"] == []
    assert course(counts(scaled, "inference")) == [1, 2, 1]
    assert verdicts(judged, "Ready") == verdicts(judged, "Available") == {"True"}
    assert not any("f:replicas" in fields for fields in operator_fields(scaled, "inference"))
    writes = [request for request in audit.since(mark, namespace) if request.is_write]
    assert {request.resource for request in writes} <= {"polyglotservices"}
    print(
        f"1 -> 2 ready pods {grown - began:.0f} s after the load began, 2 -> 1 {shrunk - eased:.0f} s after it ended; "
        f"{outcome['calls']} calls, 0 failed; {len(judged)} states of the service seen, all Ready and Available; "
        f"the operator wrote the status {len(writes)} times and no child"
    )


def test_replicas_never_drop_while_they_change_hands(kubectl: Command, context: str, get: Get, namespace: str) -> None:
    add_model(kubectl, namespace)

    def hand_over(**size: Any) -> None:
        """Give both components a size, and wait until it holds and their autoscalers, if any, have judged by load."""
        part = {"resources": SMALL, **size}
        declare(kubectl, namespace, "handed", inference=part, gateway=part)
        service.wait_ready()
        judged = ["3 ScaleDownStabilized"] * 2 if "autoscaling" in size else []
        eventually(lambda: judgements(get, service), lambda found: found == judged, 90, f"judgements {judged}")

    least_three = {**AUTOSCALING, "minReplicas": 3, "maxReplicas": 4}
    least_one = {**AUTOSCALING, "minReplicas": 1, "maxReplicas": 4}
    three = {"resources": SMALL, "replicas": 3}
    service = declare(kubectl, namespace, "handed", inference=three, gateway=three)
    service.wait_ready()
    eventually(lambda: ready_pods(get, service), lambda ready: ready == [3, 3], 30, "three ready pods each")
    with watching(context, "deployment", "-n", namespace, "-l", "polyglot.dev/service=handed") as seen:
        hand_over(autoscaling=least_three)
        hand_over(autoscaling=least_one)  # three live pods, one promised
        hand_over(replicas=3)
        hand_over(autoscaling=least_one)
        hand_over(replicas=3)
        steady = len(seen)
        hand_over()
        eventually(lambda: ready_pods(get, service), lambda ready: ready == [1, 1], 60, "one ready pod each")
    for part in ("inference", "gateway"):
        assert course(counts(seen[:steady], part)) == [3], part
        assert course(ready_replicas(of(seen[:steady], part))) == [3], part
        assert course(counts(seen, part)) == [3, 1], part
        assert min(ready_replicas(of(seen, part))) == 1, part
    print(f"{steady} versions of the Deployments seen in 5 changes of hands: 3 wanted and 3 ready in each")


def judgement(get: Get, service: Service) -> Object:
    """What the inference autoscaler says of its last look."""
    hpa = get("horizontalpodautoscaler", f"{service.name}-inference", "-n", service.namespace)
    status: Object = hpa.get("status", {})
    return status


def is_idle(judgement: Object) -> bool:
    """Whether the inference container's own metrics were read and ask for no more than one pod."""
    (metric,) = judgement.get("currentMetrics") or [{}]
    read = metric.get("containerResource", {"container": None})  # a failed look leaves a metric without type
    use = read.get("current", {}).get("averageUtilization", 100)
    return (read["container"], judgement.get("desiredReplicas")) == ("inference", 1) and use < 50


def judgements(get: Get, service: Service) -> list[str]:
    """How many replicas each autoscaler of the service wants, and by which reason it is able to scale."""
    found = []
    for hpa in children(get, service):
        if hpa["kind"] == "HorizontalPodAutoscaler":
            status = hpa.get("status", {})
            reasons = {c["type"]: c["reason"] for c in status.get("conditions", [])}
            found.append(f"{status.get('desiredReplicas', 0)} {reasons.get('AbleToScale')}")
    return found


def ready_pods(get: Get, service: Service) -> list[int]:
    """Ready pods of the service's Deployments."""
    found = get("deployment", "-n", service.namespace, "-l", f"polyglot.dev/service={service.name}")
    return [deployment["status"].get("readyReplicas", 0) for deployment in found["items"]]


def await_ready_pods(events: list[Event], count: int, after: float) -> float:
    """Wait until inference has so many ready pods and wants no other number; return when that was."""

    def moment() -> float | None:
        return next(
            (
                event.at
                for event in of(events, "inference")
                if event.at > after and ready_replicas([event]) == [count] and event.object["spec"]["replicas"] == count
            ),
            None,
        )

    found = eventually(moment, lambda at: at is not None, 120, f"{count} ready pods")
    assert found is not None
    return found


def of(events: list[Event], part: str) -> list[Event]:
    return [event for event in events if event.object["metadata"]["labels"]["polyglot.dev/component"] == part]


def counts(events: list[Event], part: str) -> list[int]:
    return [event.object["spec"]["replicas"] for event in of(events, part)]


def course(values: list[int]) -> list[int]:
    """Return the values without repetitions in a row."""
    return [value for last, value in zip([None, *values], values, strict=False) if value != last]


def operator_fields(events: list[Event], part: str) -> list[Object]:
    """What the operator owned of a component's spec in each version of its Deployment."""
    return [
        entry["fieldsV1"].get("f:spec", {})
        for event in of(events, part)
        for entry in event.object["metadata"]["managedFields"]
        if entry["manager"] == "polyglot-operator"
    ]
