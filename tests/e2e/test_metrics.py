"""Metrics as a Prometheus outside the mesh gets them: by the pods' annotations, with a mesh and without."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command
from tests.e2e.services import Service, add_model, assert_predicts_as_onnx_runtime, declare

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
"""What Prometheus asks for."""

OWN = {
    "gateway": {"polyglot_gateway_requests_total", "polyglot_gateway_backend_state"},
    "inference": {"polyglot_inference_requests_total", "polyglot_inference_state"},
}
SIDECARS = {"istio_agent_startup_duration_seconds", "envoy_server_uptime"}


@pytest.fixture(scope="module")
def prometheus(client_pods: ClientPods) -> ClientPod:
    """A client outside the mesh, where a Prometheus would be."""
    return client_pods.start("prometheus", mesh=False)


@pytest.fixture(scope="module", params=["Istio", "None"])
def service(
    request: pytest.FixtureRequest, kubectl: Command, client_pods: ClientPods, prometheus: ClientPod
) -> Service:
    """A service that has answered a call, in the mesh for mesh clients only, or plain."""
    add_model(kubectl, client_pods.namespace)
    clients = "MeshOnly" if request.param == "Istio" else "Any"
    mesh = {"mode": request.param, "clients": clients}
    found = declare(kubectl, client_pods.namespace, f"with-{request.param.lower()}", mesh=mesh)
    found.wait_ready()
    caller = client_pods.start("caller", mesh=True) if clients == "MeshOnly" else prometheus
    assert_predicts_as_onnx_runtime(caller, found)
    return found


def scrape(client: ClientPod, url: str) -> dict[str, float]:
    """Return the sum of all samples by the name of the metric."""
    text = client.python(f"""
import urllib.request
request = urllib.request.Request({url!r}, headers={{"Accept": {ACCEPT!r}}})
print(urllib.request.urlopen(request, timeout=10).read().decode())
""")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def annotated(pod: dict[str, Any]) -> str:
    """Return where a pod's annotations send a scraper."""
    notes = pod["metadata"]["annotations"]
    assert notes["prometheus.io/scrape"] == "true"
    return f"http://{pod['status']['podIP']}:{notes['prometheus.io/port']}{notes['prometheus.io/path']}"


@pytest.mark.parametrize("component", ["gateway", "inference"])
def test_metrics_are_scraped_from_outside_the_mesh_by_the_pods_annotations(
    component: str, service: Service, prometheus: ClientPod
) -> None:
    (pod,) = service.pods(component)
    url, meshed = annotated(pod), service.name == "with-istio"
    found = scrape(prometheus, url)
    assert found.keys() >= OWN[component] | (SIDECARS if meshed else set())
    assert found[f"polyglot_{component}_requests_total"] >= 1
    path = url.partition(pod["status"]["podIP"])[2]
    print(f"{component}, mesh {'STRICT' if meshed else 'None'}: {len(found)} metrics at {path}")
    if meshed:
        port = {"gateway": 8002, "inference": 9001}[component]
        refusal = prometheus.refused(f"""
import urllib.request
urllib.request.urlopen("http://{pod["status"]["podIP"]}:{port}/metrics", timeout=10)
""")
        assert "Connection reset by peer" in refusal


def test_the_operators_metrics_are_scraped_from_its_service(prometheus: ClientPod, digits: Service) -> None:
    found = scrape(prometheus, "http://polyglot-operator-metrics.polyglot-system.svc.cluster.local:8081/metrics")
    expected = {
        "polyglot_services",
        "polyglot_apply_total",
        "polyglot_status_writes_total",
        "polyglot_watch_age_seconds",
        "controller_runtime_reconcile_total",
        "workqueue_depth",
        "rest_client_requests_total",
    }
    assert expected <= found.keys()
    print(f"operator: {len(found)} metrics")
