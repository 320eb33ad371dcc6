"""How many accelerators are free for a service, and how many pods occupy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from polyglot_operator.api import names
from polyglot_operator.api.model import Inference
from polyglot_operator.api.names import Component
from polyglot_operator.cluster.inventory import Key
from polyglot_operator.reconcile.accelerators import Free, count, requested

GPU = "nvidia.com/gpu"
KEY = Key("ns", "s")


def container(devices: int | str) -> dict[str, Any]:
    return {"resources": {"limits": {GPU: str(devices)}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{}]}, 0),
        ({"containers": [container(2)]}, 2),
        ({"containers": [container(2), container(1)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(4)]}, 4),
        ({"containers": [container(3)], "initContainers": [container(1), container(2)]}, 3),
        ({"containers": [container("1k")]}, 1000),
    ],
)
def test_containers_add_up_and_init_containers_take_turns(spec: dict[str, Any], expected: int) -> None:
    assert requested({"spec": spec}, GPU) == expected


def node(name: str, devices: int, product: str = "L4", spec: Any = None, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product, **labels}},
        "spec": spec or {},
        "status": {"allocatable": {GPU: str(devices)}},
    }


def pod(on: str | None, devices: int = 1, *, service: str = "s", going: bool = False) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "labels": names.labels(service, Component.INFERENCE),
            **({"deletionTimestamp": "2026-11-21T10:00:00Z"} if going else {}),
        },
        "spec": {"containers": [container(devices)], **({"nodeName": on} if on else {})},
    }


async def counted(nodes: Iterable[Any], pods: Iterable[Any], **inference: Any) -> Free:
    async def stream(items: Iterable[Any]) -> AsyncIterator[Any]:
        for item in items:
            yield item

    wanted = Inference.model_validate({"accelerator": {}, **inference})
    assert wanted.accelerator is not None
    return await count(stream(nodes), stream(pods), wanted, wanted.accelerator, KEY)


async def test_what_pods_of_anyone_hold_is_not_free() -> None:
    pods = [pod("a"), pod("a", service="other"), pod("b"), pod(None)]
    assert await counted([node("a", 2), node("b", 4)], pods) == Free(total=6, free=3, largest=3, short=0)


@pytest.mark.parametrize(
    ("pods", "short"),
    [
        ([pod("a"), pod("a"), pod(None)], 1),  # a full node
        ([pod("a"), pod("a", going=True), pod(None)], 0),  # its own pod is about to make room
        ([pod("a"), pod("a", going=True), pod(None), pod(None)], 1),
        ([pod("a"), pod("a", service="other", going=True), pod(None)], 1),  # others' room may be taken by others
        ([pod("a"), pod(None), pod(None)], 1),  # one device is free and not yet taken
        ([pod("a"), pod("a"), pod(None, going=True)], 0),  # what leaves waits for nothing
        ([pod("a"), pod("a"), pod(None, service="other")], 0),
    ],
)
async def test_a_rolling_update_alone_is_no_shortage(pods: list[Any], short: int) -> None:
    assert (await counted([node("a", 2)], pods)).short == short


async def test_devices_spread_over_nodes_do_not_add_up() -> None:
    found = await counted([node("a", 1), node("b", 1)], [pod(None, 2)], accelerator={"count": 2})
    assert found == Free(total=2, free=2, largest=1, short=1)


async def test_only_nodes_count_that_the_pods_may_use() -> None:
    nodes = [node("a", 8, spec={"unschedulable": True}), node("b", 4, "A100"), node("c", 2, pool="x"), node("d", 1)]
    assert (await counted(nodes, [])).total == 7
    assert (await counted(nodes, [], accelerator={"products": ["A100", "H100"]})).total == 4
    assert (await counted(nodes, [], scheduling={"nodeSelector": {"pool": "x"}})).total == 2


@pytest.mark.parametrize(
    ("taint", "counts"),
    [
        ({"key": GPU, "value": "present", "effect": "NoSchedule"}, True),  # what accelerators bring along
        ({"key": GPU, "effect": "NoExecute"}, False),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, False),
        ({"key": "dedicated", "value": "a", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "b", "effect": "NoSchedule"}, False),
        ({"key": "dedicated", "value": "b", "effect": "PreferNoSchedule"}, True),
        ({"key": "spot", "effect": "NoExecute"}, True),
    ],
)
async def test_a_node_counts_whose_taints_the_pods_accept(taint: dict[str, str], counts: bool) -> None:
    tolerations = [{"key": "dedicated", "value": "a"}, {"key": "spot", "operator": "Exists"}]
    nodes = [node("a", 2, spec={"taints": [taint]})]
    assert (await counted(nodes, [], scheduling={"tolerations": tolerations})).total == 2 * counts


async def test_a_toleration_without_key_accepts_every_taint() -> None:
    nodes = [node("a", 2, spec={"taints": [{"key": "any", "effect": "NoExecute"}]})]
    assert (await counted(nodes, [], scheduling={"tolerations": [{"operator": "Exists"}]})).total == 2
