"""The operator's life: killed, cut off, without an API server; and how it is seen."""

from __future__ import annotations

import json
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyglot_operator.api.names import SERVICE_LABEL
from polyglot_operator.cluster.kinds import SERVICE, WATCHED
from polyglot_operator.cluster.watches import SILENCE
from tests.e2e.cluster import Command, CommandError, eventually, node_of
from tests.e2e.kwok import FakeNodes
from tests.e2e.modes import fresh_namespace
from tests.e2e.operator_pod import OperatorPod, total
from tests.e2e.outside import OutsideOperator, jaeger_receiver, outside_operator
from tests.e2e.services import AUTOSCALING, SMALL, Get, Object, Service, add_model, children, declare
from tests.e2e.services import CHILDREN as KINDS
from tests.http import call

KILLS = 20
CHURNED = 10
BACK = 15.0
"""Seconds after a kill within which a change is reconciled."""
RESUMED = 30.0
"""Seconds after the API server answers again within which a change is reconciled."""

DOCUMENTED = re.compile(r"^\| `(\w+)` ", re.MULTILINE)
METRICS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


@dataclass
class Churn:
    """Creates, edits and deletes a few services, one change after the other, until it is told to stop.

    `specs` has what each service that should exist was last declared with.
    """

    kubectl: Command
    namespace: str
    nodes: FakeNodes
    specs: dict[str, Any] = field(default_factory=dict)
    changes: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _dice: random.Random = field(default_factory=lambda: random.Random(4))  # noqa: S311 - repeats

    def run(self) -> None:
        """Change one thing after the other."""
        while not self._stop.wait(0.2):
            name = f"churned-{self._dice.randrange(CHURNED - 1)}"
            try:
                if name in self.specs and self._dice.random() < 0.25:
                    self.delete(name)
                else:
                    self.declare(name)
            except CommandError as error:
                self.failures.append(str(error))

    def stop(self) -> None:
        """Make no further change."""
        self._stop.set()

    def declare(self, name: str) -> Service:
        """Create a service, or give it another revision and other sections."""
        self.changes += 1
        autoscaling = {"autoscaling": AUTOSCALING} if self._dice.random() < 0.5 else {}
        env = [{"name": "REVISION", "value": str(self.changes)}]
        spec = self.nodes.spec(inference={"resources": SMALL, "env": env, **autoscaling}, gateway={"resources": SMALL})
        service = declare(self.kubectl, self.namespace, name, **spec)
        self.specs[name] = spec
        return service

    def delete(self, name: str) -> None:
        """Delete a service."""
        self.changes += 1
        self.kubectl("delete", "polyglotservice", name, "-n", self.namespace, "--wait=false")
        del self.specs[name]


@pytest.mark.disruptive
def test_twenty_kills_during_churn_lose_nothing_and_leak_nothing(
    kubectl: Command, get: Get, namespace: str, fake_nodes: FakeNodes, operator_pod: OperatorPod
) -> None:
    """Every kill is a SIGKILL to the process in its container.

    The kubelet restarts a killed container at once the first time, and then with growing pauses (10 s, 20 s, …). So the
    pod is left to it after the first kill; after every other one it is deleted too, and a new one takes its place.
    """
    add_model(kubectl, namespace)
    churn = Churn(kubectl, namespace, fake_nodes)
    probe = f"churned-{CHURNED - 1}"  # never deleted
    churn.declare(probe).wait_ready()
    worker = threading.Thread(target=churn.run)
    worker.start()
    back = []
    try:
        for number in range(KILLS):
            pod, killed = operator_pod.kill(), time.monotonic()
            if number:
                operator_pod.replace(pod)
            churn.declare(probe).wait("Reconciled", "True", within=60)
            back.append(time.monotonic() - killed)
    finally:
        churn.stop()
        worker.join()
    assert churn.failures == []

    def outcome() -> dict[str, dict[str, str]]:
        services = [Service(kubectl, namespace, name) for name in churn.specs]
        for service in services:
            service.wait_ready()
        return {service.name: shapes(children(get, service)) for service in services}

    def leaked() -> list[str]:
        found = get(KINDS, "-n", namespace, "-l", SERVICE_LABEL)["items"]
        owners = {child["metadata"]["name"]: child["metadata"]["labels"][SERVICE_LABEL] for child in found}
        return [child for child, service in owners.items() if service not in churn.specs]

    survived = outcome()
    eventually(leaked, lambda found: found == [], 60, "no child of a deleted service")
    for name in churn.specs:
        kubectl("delete", "polyglotservice", name, "-n", namespace, "--cascade=foreground")
    for name, spec in churn.specs.items():
        declare(kubectl, namespace, name, **spec)
    fresh = outcome()
    print(
        f"{KILLS} kills during {churn.changes} changes of {CHURNED} services: back after {max(back):.1f} s at most, "
        f"{sum(back) / KILLS:.1f} s on average; the {len(fresh)} services left have their "
        f"{sum(map(len, survived.values()))} children, and 0 were leaked"
    )
    differing = {name: sorted(survived[name].items() ^ fresh[name].items()) for name in fresh}
    assert differing == {name: [] for name in fresh}
    assert max(back) <= BACK


@pytest.mark.disruptive
def test_a_restart_of_the_api_server_is_outlived(
    kubectl: Command, namespace: str, context: str, fake_nodes: FakeNodes, operator_pod: OperatorPod
) -> None:
    add_model(kubectl, namespace)
    churn = Churn(kubectl, namespace, fake_nodes)
    churn.declare("outliving").wait_ready()
    before, node = operator_pod.wait(), node_of(context)
    server = node("crictl", "ps", "--quiet", "--name=^kube-apiserver$").strip()
    address = kubectl("get", "service/kubernetes", "-o", "jsonpath={.spec.clusterIP}")  # where pods find it
    stopped = time.monotonic()
    node("crictl", "stop", "--timeout=5", server)
    ready = ("curl", "--insecure", "--silent", "--max-time", "2", f"https://{address}/readyz")
    eventually(lambda: node(*ready), lambda answer: answer == "ok", 180, "readyz where pods ask for it")
    answered = time.monotonic()
    churn.declare("outliving").wait("Reconciled", "True", within=60)
    resumed = time.monotonic() - answered
    churn.declare("arriving").wait_ready(within=60)
    churn.delete("outliving")
    eventually(
        lambda: kubectl("get", KINDS, "-n", namespace, "-l", "polyglot.dev/service=outliving", "-o", "name"),
        lambda found: not found,
        60,
        "no child of the service that was deleted",
    )
    after = operator_pod.wait()
    print(
        f"the API server was away for {answered - stopped:.1f} s; a change was reconciled {resumed:.1f} s after it "
        f"answered; {after.restarts - before.restarts} restarts of the operator"
    )
    assert resumed <= RESUMED
    assert (after.uid, after.restarts) == (before.uid, before.restarts)


@dataclass
class Silence:
    """What `/healthz` says while an operator's connections are frozen and afterwards, by seconds since they were."""

    operator: OutsideOperator
    oldest: float = 0.0
    """Seconds for which the most silent watch had been silent by then."""
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    _watcher: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        """Whether the connections were frozen."""
        return self._watcher is not None

    def begin(self) -> None:
        """Freeze the connections, and go on beside other tests."""
        self.operator.relay.freeze()
        self._watcher = threading.Thread(target=self._watch, args=(time.monotonic(),))
        self._watcher.start()

    def end(self) -> None:
        """Wait until liveness has failed and holds again."""
        if not self.begun:
            self.begin()
        assert self._watcher is not None
        self._watcher.join()

    def _watch(self, began: float) -> None:
        self.oldest = max(age for _, age in self.operator.metrics()["polyglot_watch_age_seconds"])
        status = 200
        for awaited in (503, 200):
            while status != awaited and time.monotonic() - began < 2 * SILENCE:
                time.sleep(0.5)
                reply = self.operator.health()
                status = reply.status
                self.answers.append((time.monotonic() - began, status, reply.body.decode()))
            self.operator.relay.thaw()


@pytest.fixture(scope="session")
def silence(
    kubectl: Command, context: str, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Silence]:
    """An operator outside of the cluster that can be cut off beside other tests."""
    namespace = fresh_namespace(kubectl, "outside")
    add_model(kubectl, namespace)
    folder = tmp_path_factory.mktemp("outside")
    with (
        jaeger_receiver(context) as spans,
        outside_operator(context, namespace, images, folder, spans) as operator,
    ):
        kinds = len((SERVICE, *WATCHED)) * 2  # in two namespaces
        eventually(lambda: watches_of(operator), lambda found: len(found) == kinds, 60, "a watch of every kind")
        found = Silence(operator)
        yield found
        if found.begun:
            found.end()
    kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.opening
def test_an_operator_with_all_its_watches_is_alive(silence: Silence) -> None:
    assert silence.operator.health().status == 200
    silence.begin()


@pytest.mark.closing
def test_liveness_fails_when_the_watches_are_dead_and_not_before(silence: Silence) -> None:
    silence.end()
    failed = next((after, text) for after, status, text in silence.answers if status == 503)
    recovered, status, _ = silence.answers[-1]
    print(
        f"/healthz failed {failed[0]:.1f} s after the connections were frozen, when the most silent watch had been so "
        f"for {failed[0] + silence.oldest:.1f} s; alive again {recovered - failed[0]:.1f} s after they flowed"
    )
    assert re.search(r"watch /\S+ has been silent for too long", failed[1])
    assert SILENCE <= failed[0] + silence.oldest + 1 <= SILENCE + 5
    assert status == 200
    assert recovered - failed[0] <= RESUMED


@pytest.mark.closing
def test_an_operator_whose_watches_came_back_resumes_and_its_reconciles_are_spans(
    kubectl: Command, fake_nodes: FakeNodes, silence: Silence
) -> None:
    silence.end()
    operator = silence.operator
    before, began = total(operator.metrics(), "controller_runtime_reconcile_total"), time.monotonic()
    declare(kubectl, operator.namespace, "traced", **fake_nodes.spec()).wait_ready()
    eventually(
        lambda: total(operator.metrics(), "controller_runtime_reconcile_total"), lambda now: now > before, 30, "work"
    )
    resumed = time.monotonic() - began
    spans = eventually(lambda: reconciles(operator.name), bool, 30, "reconcile spans in Jaeger")
    tags = {tag["key"]: tag["value"] for tag in spans[0]["tags"]}
    print(f"resumed within {resumed:.1f} s; {len(spans)} reconcile spans of the first seconds in Jaeger")
    assert (tags["k8s.namespace.name"], tags["polyglot.service"]) == (operator.namespace, "traced")
    assert all(0 < span["duration"] < 30_000_000 for span in spans)


def test_every_documented_metric_is_there_and_moves(
    kubectl: Command, namespace: str, fake_nodes: FakeNodes, operator_pod: OperatorPod
) -> None:
    page = METRICS_PAGE.read_text()
    documented = set(DOCUMENTED.findall(page[page.index("## Operator") : page.index("## Gateway")]))
    before = operator_pod.metrics()
    add_model(kubectl, namespace)
    declare(kubectl, namespace, "counted", **fake_nodes.spec()).wait_ready()
    kubectl("delete", "service/counted-gateway", "-n", namespace)
    kubectl("label", "deployment/counted-gateway", "-n", namespace, "--overwrite", "polyglot.dev/component=wrong")
    eventually(lambda: kubectl("get", "service/counted-gateway", "-n", namespace), bool, 10, "the deleted Service")
    eventually(
        operator_pod.metrics,
        lambda now: moved(before, now, "polyglot_apply_total", kind="Deployment", result="configured") >= 1,
        10,
        "a repaired Deployment",
    )
    now = operator_pod.metrics()
    counts = {
        "reconciles": moved(before, now, "controller_runtime_reconcile_total"),
        "created": moved(before, now, "polyglot_apply_total", result="created"),
        "unchanged": moved(before, now, "polyglot_apply_total", result="unchanged"),
        "status writes": moved(before, now, "polyglot_status_writes_total"),
        "requests": moved(before, now, "rest_client_requests_total", method="PATCH"),
        "timed reconciles": moved(before, now, "controller_runtime_reconcile_time_seconds_count"),
        "waits": moved(before, now, "workqueue_queue_duration_seconds_count"),
    }
    ages = [age for _, age in now["polyglot_watch_age_seconds"]]
    print(f"{len(documented)} metrics; moved by {counts}; oldest of {len(ages)} watches {max(ages):.0f} s")
    assert documented <= now.keys()
    assert moved(before, now, "polyglot_apply_total", kind="Service", result="created") >= 3
    assert all(count > 0 for count in counts.values())
    assert total(now, "workqueue_depth") < 100
    assert total(now, "polyglot_services", ready="True") >= 1
    watched = {path.rpartition("/")[2] for labels, _ in now["polyglot_watch_age_seconds"] for path in labels.values()}
    assert {kind.plural for kind in (SERVICE, *WATCHED)} <= watched
    assert max(ages) < SILENCE


def moved(before: dict[str, Any], now: dict[str, Any], name: str, **labels: str) -> float:
    """Return by how much a metric has grown."""
    return total(now, name, **labels) - total(before, name, **labels)


def watches_of(operator: OutsideOperator) -> list[tuple[dict[str, str], float]]:
    """Return the watches of an operator that may still be starting."""
    try:
        return operator.metrics()["polyglot_watch_age_seconds"]
    except OSError as error:
        raise CommandError(f"{operator.name} does not answer yet") from error


def reconciles(service: str) -> list[Object]:
    """Return the reconcile spans that Jaeger has of an operator."""
    query = urllib.parse.urlencode({"service": service, "operation": "reconcile", "limit": 100})
    reply = call(f"http://127.0.0.1:16686/api/traces?{query}")
    return [span for trace in reply.json().get("data") or () for span in trace["spans"]]


def shapes(found: list[Object]) -> dict[str, str]:
    """Return what a service's children declare, as texts that are equal for a service that is made again."""
    return {f"{obj['kind']}/{obj['metadata']['name']}": shape(obj) for obj in found}


def shape(obj: Object) -> str:
    """Return an object without what its owner's uid and the API server put in."""
    metadata = obj["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != "deployment.kubernetes.io/revision"}
    content = {key: obj[key] for key in obj if key not in {"metadata", "status"}}
    if obj["kind"] == "Service":
        content["spec"] = {
            k: v for k, v in obj["spec"].items() if not k.startswith("clusterIP") or v in ("None", ["None"])
        }
    (owner,) = metadata["ownerReferences"]
    return json.dumps([metadata["labels"], annotations, content], sort_keys=True).replace(owner["uid"], "OWNER")
