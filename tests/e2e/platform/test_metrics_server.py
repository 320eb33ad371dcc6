"""metrics-server: what autoscalers and `kubectl top` read."""

import json

from tests.e2e.cluster import Command, eventually

METRICS = "/apis/metrics.k8s.io/v1beta1"


def test_the_metrics_api_reports_the_node_in_use(kubectl: Command) -> None:
    nodes = eventually(
        lambda: json.loads(kubectl("get", "--raw", f"{METRICS}/nodes"))["items"], bool, 60, "metrics of the node"
    )
    assert len(nodes) == 1
    assert not nodes[0]["usage"]["memory"].startswith("0")


def test_the_metrics_api_reports_each_container_of_a_pod(kubectl: Command) -> None:
    path = f"{METRICS}/namespaces/observability/pods"
    pods = eventually(lambda: json.loads(kubectl("get", "--raw", path))["items"], bool, 60, "metrics of Jaeger")
    assert [container["name"] for container in pods[0]["containers"]] == ["jaeger"]
