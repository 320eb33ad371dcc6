"""Metrics as a Prometheus outside the mesh gets them: by the pods' annotations, with a mesh and without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command
from tests.e2e.services import Service, add_model, assert_predicts_as_onnx_runtime, declare, wait_until_routed

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
(_CONFIGURATION,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", OPERATIONS.read_text(), re.DOTALL)
PODS, OPERATOR = yaml.safe_load(_CONFIGURATION)["scrape_configs"]
"""The jobs that docs/operations.md gives for the pods and for the operator."""

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
    wait_until_routed(caller, found)
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


def target(pod: dict[str, Any]) -> str:
    """Return where the documented configuration sends a Prometheus for a pod, as relabelling has it.

    https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
    """
    metadata = pod["metadata"]
    labels = {"__metrics_path__": "/metrics", "__meta_kubernetes_pod_ip": pod["status"]["podIP"]}
    for key, value in metadata["annotations"].items():
        labels["__meta_kubernetes_pod_annotation_" + re.sub(r"\W", "_", key)] = value
    for rule in PODS["relabel_configs"]:
        value = ";".join(labels.get(name, "") for name in rule["source_labels"])
        match = re.fullmatch(rule.get("regex", "(.*)"), value)
        if rule.get("action") == "keep":
            assert match, f"{metadata['name']} is not scraped: {rule}"
        elif match:
            labels[rule["target_label"]] = match.expand(rule.get("replacement", "$1").replace("$", "\\"))
    return f"http://{labels['__address__']}{labels['__metrics_path__']}"


@pytest.mark.parametrize("component", ["gateway", "inference"])
def test_metrics_are_scraped_from_outside_the_mesh_by_the_pods_annotations(
    component: str, service: Service, prometheus: ClientPod
) -> None:
    (pod,) = service.pods(component)
    url, meshed = target(pod), service.name == "with-istio"
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
    found = scrape(prometheus, f"http://{OPERATOR['static_configs'][0]['targets'][0]}/metrics")
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
