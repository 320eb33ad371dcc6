"""The node: Kubernetes itself, name resolution and storage."""

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.cluster import REAL, Command
from tests.e2e.platform.pods import Pods

Get = Callable[..., dict[str, Any]]


def test_the_node_is_ready_at_the_version_of_the_api_server(get: Get, kubectl: Command) -> None:
    (node,) = get("nodes", "-l", REAL)["items"]
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    server = json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == server
    assert tuple(map(int, server.lstrip("v").split(".")[:2])) >= (1, 36)


def test_pods_resolve_services_and_reach_them_by_name(pods: Pods, tool_image: str) -> None:
    client = pods.start("resolver", tool_image)
    url = "http://jaeger.observability.svc.cluster.local:16686/"
    assert client.http_status(url) == "200"


def test_one_coredns_replica_leaves_the_cpu_to_others(get: Get) -> None:
    assert get("deployment", "coredns", "-n", "kube-system")["status"]["replicas"] == 1


def test_a_volume_claim_keeps_its_files_when_the_pod_goes(kubectl: Command, pods: Pods, tool_image: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    kubectl("apply", "-n", pods.namespace, "-f", "-", stdin=json.dumps(claim))
    container = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}], "securityContext": {"runAsUser": 0}}
    volumes = {"volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]}
    writer = pods.start("writer", tool_image, container=container, pod=volumes)
    writer.run("sh", "-c", "echo still here > /kept/note")
    kubectl("delete", "pod", "writer", "-n", pods.namespace)
    reader = pods.start("reader", tool_image, container=container, pod=volumes)
    assert reader.run("cat", "/kept/note") == "still here\n"
