"""Quiet: what an operator asks of the API server while nothing changes, when it restarts, when one thing changes.

Counted from the API server's audit log by the operator's user and a namespace, so that other tests may run beside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from polyglot_operator.api import names
from polyglot_operator.cluster.kinds import CHILDREN, WATCHED
from tests.e2e.audit import AuditLog, Request
from tests.e2e.cluster import Command, eventually
from tests.e2e.kwok import FakeNodes
from tests.e2e.modes import fresh_namespace
from tests.e2e.operator_pod import OperatorPod, total
from tests.e2e.services import EVERYTHING, Get, Object, Service, add_model, children, declare, written
from tests.e2e.services import names as names_of

SERVICES = 20
IDLE = 600.0
"""Seconds without any write."""
STATUS_WRITES = 3
"""Of one change."""

_AUTOSCALED = {"inference": EVERYTHING["inference"]}
_MESHED = {"mesh": EVERYTHING["mesh"]}
SORTS: tuple[Object, ...] = ({}, _AUTOSCALED, _MESHED, EVERYTHING)

_KINDS = {kind.plural: kind.name for kind in CHILDREN}


@dataclass(frozen=True)
class Settled:
    """Services that are Ready and are no longer written to: since `mark` in the audit log, and since `at`."""

    namespace: str
    services: list[Service]
    mark: int
    at: float
    seconds_to_ready: float
    requests_to_ready: list[Request]


@pytest.fixture(scope="session")
def settled(kubectl: Command, audit: AuditLog, fake_nodes: FakeNodes) -> Iterator[Settled]:
    """Twenty services of every sort on nodes without a machine."""
    namespace = fresh_namespace(kubectl, "quiet")
    add_model(kubectl, namespace)
    opened, began = audit.mark(), time.monotonic()
    services = [
        declare(kubectl, namespace, f"quiet-{n:02}", **fake_nodes.spec(**SORTS[n % len(SORTS)]))
        for n in range(SERVICES)
    ]
    for service in services:
        service.wait_ready()
    ready = time.monotonic() - began
    mark = settle(audit, namespace)
    yield Settled(namespace, services, mark, time.monotonic(), ready, audit.since(opened, namespace))
    kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.opening
def test_twenty_services_cost_one_apply_for_each_child_and_few_status_writes(get: Get, settled: Settled) -> None:
    made = names_of([child for service in settled.services for child in children(get, service)])
    applied, status = applies(settled.requests_to_ready), status_writes(settled.requests_to_ready)
    print(
        f"{SERVICES} services Ready after {settled.seconds_to_ready:.1f} s: {applied.total()} applies for {len(made)} "
        f"children, {status.total()} status writes, at most {max(status.values())} for one service"
    )
    assert applied == dict.fromkeys(made, 1)
    assert status.keys() == {service.name for service in settled.services}
    assert max(status.values()) <= STATUS_WRITES


@pytest.mark.closing
def test_ten_idle_minutes_with_twenty_services_cost_no_write(
    audit: AuditLog, settled: Settled, operator_pod: OperatorPod
) -> None:
    time.sleep(max(0.0, settled.at + IDLE - time.monotonic()))  # what the tests in between have left of it
    requests = audit.since(settled.mark, settled.namespace)
    writes = [request for request in requests if request.is_write]
    restarts = operator_pod.wait().restarts
    print(
        f"{time.monotonic() - settled.at:.0f} idle s with {SERVICES} services: {len(writes)} writes and "
        f"{len(requests) - len(writes)} reads in their namespace, {restarts} restarts of the operator"
    )
    assert writes == []
    assert restarts == 0
    assert all(service.condition("Ready")["status"] == "True" for service in settled.services)


@pytest.mark.closing
def test_every_watch_of_children_is_filtered_by_the_api_server(audit: AuditLog, settled: Settled) -> None:
    kinds = {(kind.group, kind.plural) for kind in WATCHED}
    seen = [
        (request, parse_qs(urlsplit(request.uri).query))
        for request in audit.since(settled.mark)
        if request.verb in {"watch", "list"} and (request.group, request.resource) in kinds
    ]
    watches = [(request, query) for request, query in seen if request.verb == "watch"]
    print(f"{len(watches)} watches opened of {len({request.resource for request, _ in watches})} kinds, all filtered")
    assert {(request.group, request.resource) for request, _ in watches} == kinds
    assert all(query.get("labelSelector") == [names.CHILD_SELECTOR] for _, query in watches)
    assert [request.uri for request, query in seen if not {"labelSelector", "fieldSelector"} & query.keys()] == []


@pytest.mark.parametrize("section", ["gateway", "inference"])
def test_a_spec_change_costs_one_apply_for_each_changed_child_and_three_status_writes(
    kubectl: Command, get: Get, audit: AuditLog, module_namespace: str, section: str
) -> None:
    add_model(kubectl, module_namespace)
    service = declare(kubectl, module_namespace, "moving")
    service.wait_ready()
    settle(audit, module_namespace)
    before, mark, began = written(children(get, service)), audit.mark(), time.monotonic()
    change: Any = {section: {"resources": {"requests": {"cpu": "11m"}}}}
    declare(kubectl, module_namespace, "moving", **change)
    service.wait_ready()
    ready = time.monotonic() - began
    settle(audit, module_namespace)

    after = written(children(get, service))
    differing = {name for name in after if after[name] != before.get(name)}
    requests = audit.since(mark, module_namespace)
    applied, status = applies(requests), status_writes(requests)
    print(
        f"a change of {section}.resources: Ready after {ready:.1f} s, applied {dict(applied)}, "
        f"{status.total()} status writes"
    )
    assert differing == {f"Deployment/moving-{section}"}
    assert applied == dict.fromkeys(differing, 1)
    assert status.total() <= STATUS_WRITES


@pytest.mark.disruptive
def test_an_operator_restart_changes_no_object(
    get: Get, audit: AuditLog, settled: Settled, operator_pod: OperatorPod
) -> None:
    def versions() -> dict[str, str]:
        found = [get("polyglotservice", service.name, "-n", service.namespace) for service in settled.services]
        found += [child for service in settled.services for child in children(get, service)]
        return {f"{obj['kind']}/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"] for obj in found}

    def counted() -> tuple[float, float]:
        found = operator_pod.metrics()
        under_way = total(found, "workqueue_depth") + total(found, "controller_runtime_active_workers")
        return total(found, "controller_runtime_reconcile_total"), under_way

    # What earlier tests gave back may be on its way out still: a service that goes meanwhile is never reconciled.
    eventually(lambda: leaving(get), lambda found: found == [], 120, "no namespace on its way out")
    settle(audit, settled.namespace)
    every, before, mark = len(get("polyglotservices", "-A")["items"]), versions(), audit.mark()
    began = time.monotonic()
    operator_pod.restart()
    eventually(
        counted,
        lambda found: found[0] >= every and found[1] == 0,
        60,
        f"at least {every} reconciles, and no service left to reconcile",
    )
    seconds = time.monotonic() - began
    settle(audit, settled.namespace)

    after, requests = versions(), audit.since(mark, settled.namespace)
    differing = [name for name in before if after.get(name) != before[name]]
    applied = applies(requests)
    lists = Counter(request.resource for request in audit.since(mark) if request.verb == "list")
    print(
        f"restarted and every one of {every} services seen after {seconds:.1f} s: {applied.total()} applies for "
        f"{len(before) - SERVICES} children, {status_writes(requests).total()} status writes, {len(differing)} of "
        f"{len(before)} objects changed, at most {max(lists.values())} lists of a kind"
    )
    assert differing == []
    assert applied.keys() <= before.keys()
    assert max(applied.values(), default=0) <= 1


def leaving(get: Get) -> list[str]:
    """Return the namespaces that are being deleted."""
    found = [namespace["metadata"] for namespace in get("namespaces")["items"]]
    return [metadata["name"] for metadata in found if "deletionTimestamp" in metadata]


def settle(audit: AuditLog, namespace: str, seconds: float = 10.0, within: float = 120.0) -> int:
    """Wait until nothing was written to a namespace for some seconds; return the mark at which that began."""
    deadline = time.monotonic() + within
    mark, since = audit.mark(), time.monotonic()
    while time.monotonic() < since + seconds:
        assert time.monotonic() < deadline, f"{namespace} is still written to: {audit.since(mark, namespace)}"
        time.sleep(0.5)
        if any(request.is_write for request in audit.since(mark, namespace)):
            mark, since = audit.mark(), time.monotonic()
    return mark


def applies(requests: Iterable[Request]) -> Counter[str]:
    """Count the applies of each child, as `Kind/name`."""
    return Counter(
        f"{_KINDS[request.resource]}/{request.name}"
        for request in requests
        if request.verb == "patch" and not request.subresource
    )


def status_writes(requests: Iterable[Request]) -> Counter[str]:
    """Count the status writes of each service."""
    return Counter(request.name for request in requests if request.subresource == "status")
