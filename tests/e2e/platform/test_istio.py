"""The mesh: sidecars, mutual TLS and authorisation by service account."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.cluster import Command, eventually
from tests.e2e.platform.pods import Pod, Pods


@pytest.fixture(scope="module")
def server(kubectl: Command, pods: Pods, server_image: str) -> str:
    """The URL of a server in the mesh that admits mutual TLS from the service account `friend` alone."""
    pod_address = {"name": "JAEGER_LISTEN_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    pods.start("server", server_image, command=(), mesh=True, container={"env": [pod_address]})
    objects: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "server"},
            "spec": {
                "selector": {"app": "server"},
                "ports": [{"name": "http", "port": 80, "targetPort": 16686, "appProtocol": "http"}],
            },
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "server"},
            "spec": {"selector": {"matchLabels": {"app": "server"}}, "mtls": {"mode": "STRICT"}},
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "server"},
            "spec": {
                "selector": {"matchLabels": {"app": "server"}},
                "rules": [{"from": [{"source": {"principals": [f"cluster.local/ns/{pods.namespace}/sa/friend"]}}]}],
            },
        },
    ]
    for body in objects:
        kubectl("apply", "-n", pods.namespace, "-f", "-", stdin=json.dumps(body))
    return f"http://server.{pods.namespace}/"


@pytest.fixture(scope="module")
def friend(pods: Pods, tool_image: str) -> Pod:
    """A client in the mesh, under the service account that the server admits."""
    return pods.start("friend", tool_image, mesh=True, service_account="friend")


def settled(client: Pod, url: str, status: str) -> str:
    """The status once the policies have reached the sidecars."""
    return eventually(lambda: client.http_status(url), lambda seen: seen == status, 30, f"HTTP {status} from {url}")


def test_an_injected_sidecar_is_native_and_asks_for_little_cpu(friend: Pod) -> None:
    spec = friend.read()["spec"]
    sidecars = [container for container in spec["initContainers"] if container["name"] == "istio-proxy"]
    assert [sidecar["restartPolicy"] for sidecar in sidecars] == ["Always"]
    assert sidecars[0]["resources"]["requests"]["cpu"] == "10m"
    assert [container["name"] for container in spec["containers"]] == ["main"]


def test_the_admitted_service_account_is_served_by_mutual_tls(server: str, friend: Pod) -> None:
    assert settled(friend, server, "200")


def test_another_service_account_is_forbidden(server: str, friend: Pod, pods: Pods, tool_image: str) -> None:
    assert settled(friend, server, "200")
    stranger = pods.start("stranger", tool_image, mesh=True, service_account="stranger")
    assert stranger.http_status(server) == "403"


def test_plaintext_from_outside_the_mesh_is_cut(server: str, friend: Pod, pods: Pods, tool_image: str) -> None:
    assert settled(friend, server, "200")
    outsider = pods.start("outsider", tool_image)
    assert outsider.http_status(server) == "000"


def test_the_mesh_offers_the_tracing_provider_otel(get: Callable[..., dict[str, Any]]) -> None:
    mesh = get("configmap", "istio", "-n", "istio-system")["data"]["mesh"]
    assert "- name: otel\n" in mesh
    assert "service: jaeger.observability.svc.cluster.local" in mesh
