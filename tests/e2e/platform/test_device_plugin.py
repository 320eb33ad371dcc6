"""The device plugin: GPUs that the real kubelet counts, hands out and takes back."""

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.cluster import REAL, Command, eventually
from tests.e2e.platform.pods import Pods

ONE_GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


def test_the_node_offers_two_gpus(get: Callable[..., dict[str, Any]]) -> None:
    (node,) = get("nodes", "-l", REAL)["items"]
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"


def test_pods_get_different_devices_and_a_third_waits(kubectl: Command, pods: Pods, tool_image: str) -> None:
    first, second = (pods.start(name, tool_image, container=ONE_GPU) for name in ("first", "second"))
    devices = [pod.run("printenv", "NVIDIA_VISIBLE_DEVICES").strip() for pod in (first, second)]
    assert all(devices)
    assert len(set(devices)) == 2

    third = {"name": "main", "image": tool_image, "command": ["sleep", "infinity"], **ONE_GPU}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "third"}, "spec": {"containers": [third]}}
    apply_pod(kubectl, pods.namespace, body)
    message = eventually(lambda: scheduling_message(kubectl, pods.namespace, "third"), bool, 30, "a scheduling message")
    assert "Insufficient nvidia.com/gpu" in message

    kubectl("delete", "pod", "first", "-n", pods.namespace)
    kubectl("wait", "-n", pods.namespace, "pod/third", "--for=condition=Ready", "--timeout=60s")


def apply_pod(kubectl: Command, namespace: str, body: dict[str, Any]) -> None:
    """Create a pod without waiting for it."""
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))


def scheduling_message(kubectl: Command, namespace: str, name: str) -> str:
    """Why the scheduler has not placed a pod; empty while it has not said."""
    path = '{.status.conditions[?(@.type=="PodScheduled")].message}'
    return kubectl("get", "pod", name, "-n", namespace, "-o", f"jsonpath={path}")
