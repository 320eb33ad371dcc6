"""How many accelerators are free, counted only while a pod waits for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyglot_operator.api import names, quantity
from polyglot_operator.api.model import Accelerator, Inference
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Scheduling
from polyglot_operator.build import placement
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ForbiddenError
from polyglot_operator.cluster.inventory import Key
from polyglot_operator.cluster.kinds import NODE, POD

Object = Mapping[str, Any]
_OVER: Final = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class Free:
    """Accelerators on the nodes that a service's pods may use; `largest` is how many one node could still give.

    `short` is how many of the service's pods will go on waiting when the free devices are handed out and the pods on
    their way out have given theirs back. While one pod follows the other in a rolling update it stays the same.
    """

    total: int
    free: int
    largest: int
    short: int


async def count_free(client: Client, inference: Inference, accelerator: Accelerator, key: Key) -> Free | None:
    """Count the free accelerators of all schedulable nodes; None where the operator may not look.

    Raises `ClusterError` when the API server does not answer.
    """
    try:
        return await count(client.items(NODE), client.items(POD, fieldSelector=_OVER), inference, accelerator, key)
    except ForbiddenError:
        return None


async def count(
    nodes: AsyncIterable[Object],
    pods: AsyncIterable[Object],
    inference: Inference,
    accelerator: Accelerator,
    key: Key,
) -> Free:
    """Count what `nodes` offer and `pods` leave of it; waiting pods come from the same list, so that the sums agree."""
    resource = accelerator.resource_name
    capacity = {
        node["metadata"]["name"]: int(quantity.value(node["status"].get("allocatable", {}).get(resource, "0")))
        async for node in nodes
        if _usable(node, inference, accelerator)
    }
    used: Counter[str] = Counter()
    waiting = leaving = 0
    async for pod in pods:
        node = pod["spec"].get("nodeName")
        if node:
            used[node] += requested(pod, resource)
        if _is_inference_of(pod, key):
            going = "deletionTimestamp" in pod["metadata"]
            waiting += not node and not going
            leaving += bool(node) and going
    free = {node: max(0, offered - used[node]) for node, offered in capacity.items()}
    places = sum(devices // accelerator.count for devices in free.values())
    return Free(
        total=sum(capacity.values()),
        free=sum(free.values()),
        largest=max(free.values(), default=0),
        short=max(0, waiting - leaving - places),
    )


def requested(pod: Object, resource: str) -> int:
    """Return how many accelerators a pod occupies: its containers' sum, or its greediest init container."""
    spec = pod["spec"]
    together = sum(_limit(container, resource) for container in spec.get("containers", ()))
    return max(together, max((_limit(container, resource) for container in spec.get("initContainers", ())), default=0))


def _usable(node: Object, inference: Inference, accelerator: Accelerator) -> bool:
    """Whether inference pods may go to a node: not cordoned, labelled as they ask, without a taint they refuse."""
    labels = node["metadata"].get("labels", {})
    scheduling = inference.scheduling or Scheduling()
    accepted = placement.tolerations(scheduling, accelerator)
    return (
        not node["spec"].get("unschedulable")
        and all(labels.get(key) == value for key, value in (scheduling.node_selector or {}).items())
        and (not accelerator.products or labels.get(placement.PRODUCT_LABEL) in accelerator.products)
        and all(_tolerated(taint, accepted) for taint in node["spec"].get("taints", ()))
    )


def _tolerated(taint: Object, accepted: Iterable[Object]) -> bool:
    """Whether a taint keeps no pod away.

    Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
    """
    return taint["effect"] == "PreferNoSchedule" or any(
        toleration.get("key") in {None, taint["key"]}
        and toleration.get("effect") in {None, taint["effect"]}
        and (toleration["operator"] == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in accepted
    )


def _is_inference_of(pod: Object, key: Key) -> bool:
    labels = pod["metadata"].get("labels", {})
    return (
        pod["metadata"]["namespace"] == key.namespace
        and names.service_of_pod(labels) == key.name
        and names.component_of(labels) is Component.INFERENCE
    )


def _limit(container: Object, resource: str) -> int:
    return int(quantity.value(container.get("resources", {}).get("limits", {}).get(resource, "0")))
