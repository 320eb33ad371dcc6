"""GPUs: a shortage is told with its counts and heals; a full node rolls; a gateway takes no GPU node.

What the node offers changes through the device plugin alone (platform/addons/device-plugin).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import AUTOSCALING, SMALL, Get, Object, Service, add_model, declare
from tests.e2e.watch import Event, ready_replicas, verdicts, watching

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
TAINT = f"{GPU}=present:NoSchedule"
PLUGIN = ("-n", "kube-system", "-l", "app.kubernetes.io/name=device-plugin")

Offer = Callable[[int], None]


@pytest.fixture
def gpu_node(get: Get) -> str:
    """The node that offers two GPUs, none of them taken: pods of earlier tests are gone."""
    eventually(lambda: holders(get), lambda found: not found, 90, "no pod with a GPU")
    (node,) = (node for node in get("nodes")["items"] if node["status"]["allocatable"].get(GPU) == "2")
    name: str = node["metadata"]["name"]
    return name


@pytest.fixture
def offer(kubectl: Command, gpu_node: str) -> Iterator[Offer]:
    """Let the device plugin offer another number of GPUs; the two come back when the test has ended."""

    def change(count: int) -> None:
        config = json.dumps({"data": {"config.yaml": f"resource: {GPU}\ncount: {count}\n"}})
        kubectl("patch", "configmap", "device-plugin", "-n", "kube-system", "--type=merge", "-p", config)
        kubectl("annotate", "pod", *PLUGIN, "--overwrite", f"edited={time.time()}")  # the kubelet reads it at once

    yield change
    change(2)
    path = f"jsonpath={{.status.allocatable.{GPU.replace('.', chr(92) + '.')}}}"
    eventually(lambda: kubectl("get", "node", gpu_node, "-o", path), lambda count: count == "2", 120, "two GPUs again")


@pytest.fixture
def labelled(kubectl: Command, gpu_node: str) -> Iterator[Callable[[str], None]]:
    """Give the GPU node a product's label; it is taken off when the test has ended."""

    def change(product: str) -> None:
        kubectl("label", "node", gpu_node, "--overwrite", f"{PRODUCT}={product}")

    yield change
    kubectl("label", "node", gpu_node, f"{PRODUCT}-")


@pytest.fixture
def untaint(kubectl: Command, get: Get, gpu_node: str) -> Iterator[Callable[[], None]]:
    """Taint the GPU node as clusters with GPUs do; the taint goes when asked, or else when the test has ended."""
    kubectl("taint", "node", gpu_node, TAINT)

    def remove() -> None:
        if any(taint["key"] == GPU for taint in get("node", gpu_node)["spec"].get("taints", [])):
            kubectl("taint", "node", gpu_node, f"{TAINT}-")

    yield remove
    remove()


def test_a_gpu_shortage_is_told_with_its_counts_and_heals_when_the_plugin_offers_more(
    kubectl: Command, namespace: str, offer: Offer
) -> None:
    add_model(kubectl, namespace)
    other = declare(kubectl, namespace, "other", inference=on_gpus(1))
    other.wait_ready()
    began = time.monotonic()
    service = declare(kubectl, namespace, "greedy", inference=on_gpus(3))
    told = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=30)
    seconds = time.monotonic() - began
    assert told["message"] == "1 pod(s) wait for 3 nvidia.com/gpu each; 1 of 2 are free, at most 1 on one node"

    kubectl("delete", "polyglotservice", "other", "-n", namespace)
    freed = time.monotonic()
    eventually(
        lambda: service.condition("AcceleratorsAvailable").get("message", ""),
        lambda message: "2 of 2 are free, at most 2 on one node" in message,
        75,  # the other's pod takes up to 45 s to go, the next count is at most 30 s away
        "a count without the other's pod",
    )
    recounted = time.monotonic() - freed

    offered = time.monotonic()
    offer(3)
    service.wait("AcceleratorsAvailable", "True", "Allocated", within=120)
    healed = time.monotonic() - offered
    service.wait_ready()
    print(
        f"shortage told after {seconds:.1f} s, devices that others freed counted after {recounted:.0f} s, healed "
        f"{healed:.0f} s after the plugin's settings changed, Ready after {time.monotonic() - offered:.0f} s"
    )


def test_a_full_node_rolls_in_place_and_also_while_the_autoscaler_asks_for_more(
    kubectl: Command, context: str, get: Get, namespace: str, gpu_node: str
) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "full", inference={**on_gpus(1), "replicas": 2})
    service.wait_ready()

    def roll(revision: str, **size: Any) -> tuple[float, list[Event], list[Event]]:
        """Change the pods' environment; return the seconds until both GPUs are with new pods, and what was seen."""
        began = time.monotonic()
        with (
            watching(context, "deployment", "full-inference", "-n", namespace) as pods,
            watching(context, "polyglotservice", "full", "-n", namespace) as judged,
        ):
            env = [{"name": "REVISION", "value": revision}]
            declare(kubectl, namespace, "full", inference={**on_gpus(1), **size, "env": env})
            service.wait_ready(within=180)
            eventually(lambda: serving(service), lambda found: found == [revision] * 2, 180, f"two pods of {revision}")
        return time.monotonic() - began, pods, judged

    seconds, pods, judged = roll("second", replicas=2)
    assert min(ready_replicas(pods)) == 1  # one pod fewer, as documented, and never none
    assert verdicts(judged, "AcceleratorsAvailable") == {"True"}
    assert verdicts(judged, "Available") == {"True"}

    autoscaling = {**AUTOSCALING, "minReplicas": 3, "maxReplicas": 3}
    env = [{"name": "REVISION", "value": "second"}]
    declare(kubectl, namespace, "full", inference={**on_gpus(1), "env": env, "autoscaling": autoscaling})
    told = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=60)
    assert told["message"] == "1 pod(s) wait for 1 nvidia.com/gpu each; 0 of 2 are free, at most 0 on one node"
    scaled = {**AUTOSCALING, "minReplicas": 1, "maxReplicas": 3}  # it keeps to three for its 300 s of stabilization
    declare(kubectl, namespace, "full", inference={**on_gpus(1), "env": env, "autoscaling": scaled})
    service.wait_ready()
    short, pods, judged = roll("third", autoscaling=scaled)
    assert {event.object["spec"]["replicas"] for event in pods} == {3}
    assert min(ready_replicas(pods)) == 1
    assert verdicts(judged, "Available") == {"True"}
    print(f"2 pods on a full node rolled in {seconds:.0f} s, with a third that finds no device in {short:.0f} s")


@pytest.mark.disruptive
def test_a_gateway_is_not_placed_on_a_tainted_gpu_node(
    kubectl: Command, namespace: str, untaint: Callable[[], None]
) -> None:
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "apart", inference=on_gpus(1))
    told = service.wait("Available", "False", "Unschedulable", within=60)
    assert told["message"].startswith("gateway has 0 ready, needs 1: pod apart-gateway-")
    assert "untolerated taint" in told["message"]
    assert service.condition("AcceleratorsAvailable")["status"] == "True"
    eventually(lambda: serving(service), lambda found: len(found) == 1, 60, "an inference pod on the tainted node")
    (gateway,) = service.pods("gateway")
    assert "nodeName" not in gateway["spec"]
    began = time.monotonic()
    untaint()
    service.wait_ready(within=60)
    print(f"the gateway waited beside a serving model; Ready {time.monotonic() - began:.0f} s after the taint was gone")


def test_a_model_gets_only_the_products_that_it_asks_for(
    kubectl: Command, namespace: str, labelled: Callable[[str], None]
) -> None:
    add_model(kubectl, namespace)
    labelled("NVIDIA-A10")
    service = declare(kubectl, namespace, "choosy", inference=on_gpus(1, products=["NVIDIA-L4", "NVIDIA-H100"]))
    told = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=30)
    assert told["message"] == (
        "1 pod(s) wait for 1 nvidia.com/gpu (NVIDIA-H100 or NVIDIA-L4) each; 0 of 0 are free, at most 0 on one node"
    )
    began = time.monotonic()
    labelled("NVIDIA-L4")
    service.wait_ready(within=60)
    assert service.condition("AcceleratorsAvailable")["status"] == "True"
    print(f"Ready {time.monotonic() - began:.0f} s after a node had the product's label")


@pytest.mark.parametrize("mode", [pytest.param("namespaced", marks=pytest.mark.disruptive)], indirect=True)
def test_free_gpus_are_said_to_be_unknown_where_nodes_may_not_be_read(kubectl: Command, namespace: str) -> None:
    add_model(kubectl, namespace)
    began = time.monotonic()
    service = declare(kubectl, namespace, "greedy", inference=on_gpus(64))
    told = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=30)
    assert told["message"] == (
        "1 pod(s) wait for 64 nvidia.com/gpu each; "
        "how many are free is unknown: the operator may not read nodes in namespaced mode"
    )
    print(f"namespaced mode: shortage told after {time.monotonic() - began:.1f} s, free GPUs said to be unknown")


def on_gpus(count: int, **more: Any) -> Object:
    """An inference section whose pods ask for GPUs."""
    return {"resources": SMALL, "accelerator": {"resourceName": GPU, "count": count, **more}}


def holders(get: Get) -> list[str]:
    """The pods on nodes that hold GPUs."""
    living = get("pods", "-A", "--field-selector=status.phase!=Succeeded,status.phase!=Failed")["items"]
    return [
        pod["metadata"]["name"]
        for pod in living
        if "nodeName" in pod["spec"]
        and any(GPU in container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"])
    ]


def serving(service: Service) -> list[str]:
    """The revision of each ready inference pod, as its environment has it."""
    return [
        next((entry["value"] for entry in pod["spec"]["containers"][0]["env"] if entry["name"] == "REVISION"), "first")
        for pod in service.pods("inference")
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]
