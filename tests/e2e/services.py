"""A PolyglotService as a test sees it: applied from an example, judged by its conditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests import digits as example
from tests.e2e.clients import ClientPod
from tests.e2e.cluster import Command, eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEMO_NAMESPACE = "polyglot-demo"

Object = dict[str, Any]
Get = Callable[..., Object]

REPAIR = 10.0
"""Seconds within which drift must be gone."""

CHILDREN = (
    "serviceaccounts,configmaps,services,deployments,poddisruptionbudgets,horizontalpodautoscalers,"
    "peerauthentications,destinationrules,virtualservices,authorizationpolicies,telemetries"
)
GATEWAY_METRICS = {"Istio": "15020/proxy/stats/prometheus", "None": "8002/proxy/metrics"}
"""Where a gateway's metrics are, by mesh mode."""
INFERENCES = ("/v2/models/{model}/infer", "inference.GRPCInferenceService")
"""What a gateway's metrics call the routes of inferences, over REST and gRPC."""
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}
AUTOSCALING = {"minReplicas": 1, "maxReplicas": 2, "metrics": [{"type": "CPU", "averageUtilization": 1000}]}
"""A target that is never reached, for tests about objects, not about load."""

_OF_EACH_COMPONENT = (
    "ServiceAccount", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "PeerAuthentication",
)  # fmt: skip
_OF_INFERENCE = ("DestinationRule", "VirtualService", "AuthorizationPolicy", "HorizontalPodAutoscaler")


def all_children(name: str) -> set[str]:
    """Return the children of a service in the mesh, with an autoscaler of inference and with tracing."""
    return {
        *(f"{kind}/{name}-{part}" for kind in _OF_EACH_COMPONENT for part in ("inference", "gateway")),
        *(f"{kind}/{name}-inference" for kind in _OF_INFERENCE),
        f"Telemetry/{name}-telemetry",
    }


ALL_CHILDREN = all_children("whole")
EVERYTHING: Object = {
    "inference": {"resources": SMALL, "autoscaling": AUTOSCALING},
    "mesh": {"mode": "Istio"},
    "telemetry": {"tracing": {"endpoint": "http://jaeger.observability.svc.cluster.local:4317"}},
}
"""Sections of a spec that asks for every kind of child."""


@dataclass(frozen=True)
class Service:
    """One PolyglotService by namespace and name."""

    kubectl: Command
    namespace: str
    name: str

    def apply(self, *files: str) -> None:
        """Apply example files, named relative to examples/, into the service's namespace."""
        for file in files:
            self.kubectl("apply", "-n", self.namespace, "-f", str(EXAMPLES / file))

    def restore(self, file: str) -> None:
        """Make the object what an example file says, and nothing else, and wait until it is Ready."""
        # `replace` reads the object and writes it back: a status written in between is a conflict, so try again.
        replace = ("replace", "--save-config", "-n", self.namespace, "-f", str(EXAMPLES / file))
        eventually(lambda: self.kubectl(*replace), lambda _: True, 15, f"{self.name} replaced by {file}")
        self.wait_ready()

    def read(self) -> dict[str, Any]:
        """Return the object as the API server has it."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "polyglotservice", self.name, "-n", self.namespace, "-o", "json")
        )
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """Return a condition judged at the current generation, or {} while there is none."""
        service = self.read()
        for condition in service.get("status", {}).get("conditions", []):
            if condition["type"] == kind and condition["observedGeneration"] == service["metadata"]["generation"]:
                return dict(condition)
        return {}

    def wait(self, kind: str, status: str, reason: str | None = None, within: float = 120) -> dict[str, Any]:
        """Wait until a condition has the given status (and reason) at the current generation; return it."""
        return eventually(
            lambda: self.condition(kind),
            lambda seen: seen.get("status") == status and reason in (None, seen.get("reason")),
            within,
            f"{kind}={status} {reason or ''} of {self.namespace}/{self.name}",
        )

    def wait_ready(self, within: float = 180) -> dict[str, Any]:
        """Wait for Ready=True at the current generation."""
        return self.wait("Ready", "True", within=within)

    def infer_url(self, model: str) -> str:
        """Return where the service's gateway takes inference requests for a model, inside the cluster."""
        return f"http://{self.name}-gateway.{self.namespace}.svc.cluster.local:8000/v2/models/{model}/infer"

    def samples(self, pod: dict[str, Any], address: str) -> list[Sample]:
        """Return the samples of a pod's metrics, read as a scraper does; `address` is PORT/proxy/PATH."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}:{address}"
        families = text_string_to_metric_families(self.kubectl("get", "--raw", path))
        return [sample for family in families for sample in family.samples]

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the living pods of `gateway` or `inference`."""
        selector = f"polyglot.dev/service={self.name},polyglot.dev/component={component}"
        found = json.loads(self.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json"))
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]


def calls_by_way(service: Service) -> dict[str, float]:
    """Return how many calls of inference the only gateway pod of a service in the mesh has sent in each way."""
    (pod,) = service.pods("gateway")
    metric = "polyglot_gateway_infer_calls_total"
    samples = service.samples(pod, GATEWAY_METRICS["Istio"])
    return {sample.labels["way"]: sample.value for sample in samples if sample.name == metric}


def wait_until_routed(client: ClientPod, service: Service, model: str = "digits") -> None:
    """Wait until a first call arrives: kube-proxy and the gateway know of pods a moment after these are ready."""
    ready = service.infer_url(model).removesuffix("infer") + "ready"
    script = f"import urllib.request; urllib.request.urlopen({ready!r}, timeout=5)"
    eventually(lambda: client.python(script), lambda _: True, 15, f"a route to {service.name}")


def assert_predicts_as_onnx_runtime(client: ClientPod, service: Service) -> None:
    """Compare the labels of held-out digits with those that ONNX Runtime gives by itself."""
    pixels = example.held_out()[:5]
    label, _ = example.rest_answer(client.post(service.infer_url("digits"), example.rest_body(pixels)))
    assert label.tolist() == example.oracle(pixels)[0].tolist()


def declare(kubectl: Command, namespace: str, name: str, source: str = "digits-model", **spec: Object) -> Service:
    """Apply a small service that serves the digits model outside of the mesh; `spec` replaces whole sections."""
    model = {"name": "digits", "format": "ONNX", "source": {"configMap": {"name": source}}}
    sections = {"inference": {"resources": SMALL}, "gateway": {"resources": SMALL}, "mesh": {"mode": "None"}}
    body = {
        "apiVersion": "polyglot.dev/v1alpha1",
        "kind": "PolyglotService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"models": [model], **sections, **spec},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    return Service(kubectl, namespace, name)


def add_model(kubectl: Command, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "digits" / "model.yaml"))


def children(get: Get, service: Service) -> list[Object]:
    found = get(
        CHILDREN, "-n", service.namespace, "-l", f"polyglot.dev/service={service.name}", "--show-managed-fields"
    )
    items: list[Object] = found["items"]
    return items


def names(objects: list[Object]) -> set[str]:
    return {f"{obj['kind']}/{obj['metadata']['name']}" for obj in objects}


def written(objects: list[Object]) -> dict[str, Any]:
    """Return what the operator has written to each object and when; what controllers write beside it doesn't count."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": [
            entry for entry in obj["metadata"]["managedFields"] if entry["manager"].startswith("polyglot-")
        ]
        for obj in objects
    }
