"""How many accelerators are free, counted only while a pod waits for one."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyglot_operator.api import quantity
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ForbiddenError
from polyglot_operator.cluster.kinds import NODE, POD

Object = Mapping[str, Any]
_OVER: Final = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class Free:
    """Accelerators of one resource in the cluster; `largest` is how many one node could still give."""

    total: int
    free: int
    largest: int


async def count_free(client: Client, resource: str) -> Free | None:
    """Count the free accelerators of all schedulable nodes; None where the operator may not look.

    Raises `ClusterError` when the API server does not answer.
    """
    try:
        capacity = await _capacity(client.items(NODE), resource)
        used = await _used(client.items(POD, fieldSelector=_OVER), resource)
    except ForbiddenError:
        return None
    free = {node: max(0, offered - used.get(node, 0)) for node, offered in capacity.items()}
    return Free(sum(capacity.values()), sum(free.values()), max(free.values(), default=0))


def requested(pod: Object, resource: str) -> int:
    """Return how many accelerators a pod occupies: its containers' sum, or its greediest init container."""
    spec = pod["spec"]
    together = sum(_limit(container, resource) for container in spec.get("containers", ()))
    return max(together, max((_limit(container, resource) for container in spec.get("initContainers", ())), default=0))


async def _capacity(nodes: AsyncIterable[Object], resource: str) -> dict[str, int]:
    return {
        node["metadata"]["name"]: int(quantity.value(node["status"].get("allocatable", {}).get(resource, "0")))
        async for node in nodes
        if not node["spec"].get("unschedulable")
    }


async def _used(pods: AsyncIterable[Object], resource: str) -> dict[str, int]:
    used: dict[str, int] = {}
    async for pod in pods:
        node = pod["spec"].get("nodeName")
        if node:
            used[node] = used.get(node, 0) + requested(pod, resource)
    return used


def _limit(container: Object, resource: str) -> int:
    return int(quantity.value(container.get("resources", {}).get("limits", {}).get(resource, "0")))
